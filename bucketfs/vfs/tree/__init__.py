"""One bucket as a tree: base, pending changes, and the nodes and inode numbers that programs see."""

__all__: list[str] = []
