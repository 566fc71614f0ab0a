"""Directories, plain and sharded: list, look up, edit."""

__all__: list[str] = []
