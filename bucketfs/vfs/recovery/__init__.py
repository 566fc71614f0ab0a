"""Rebuilding pending changes from the journal, and changes that cannot be applied yet."""

__all__: list[str] = []
