"""Comparing and merging trees: differences, renames, and the one table of rules."""

__all__: list[str] = []
