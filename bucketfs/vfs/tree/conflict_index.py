"""The conflicts of a bucket that nobody has settled yet, by the paths of their copies. Pure.

The list lives in the journal: a `Conflict` record goes in where a copy is made, beside the records of the copy or in the head
of the checkpoint that holds both, and every checkpoint says the list again. So a kill at any moment leaves a copy with its
conflict, or neither, and a replay ends with the list that was.

It follows what is done here: a folder above that is renamed takes its conflicts along; a copy that is renamed or removed, or that
its original is laid over, is settled by that. Another file that is renamed over a copy is the copy from then on: so editors save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bucketfs.ops import Conflict


class Conflicts:
    """What is to be settled, oldest first."""

    def __init__(self) -> None:
        self._items: dict[str, Conflict] = {}

    def __iter__(self) -> Iterator[Conflict]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    def get(self, copy: str) -> Conflict | None:
        """The conflict whose copy stands at a path."""
        return self._items.get(copy)

    def add(self, conflict: Conflict) -> None:
        """A copy was made."""
        self._items[conflict.copy] = conflict

    def settle(self, copy: str) -> None:
        """The conflict of a copy, if there is one, is settled."""
        self._items.pop(copy, None)

    def moved(self, old: str, new: str, *, exchange: bool) -> None:
        """What stood at ``old`` stands at ``new`` now; what stood there is gone, or at ``old`` when ``exchange``."""
        if not self._items:
            return
        there, back = f"{old}/", f"{new}/"
        kept: dict[str, Conflict] = {}
        for item in self._items.values():
            if item.copy == old or (item.copy == new and (exchange or item.original == old)):
                continue  # somebody gave the copy a name of its own, or chose the other version
            moved = _moved(item, there, back)
            if moved is item and exchange:
                moved = _moved(item, back, there)
            kept[moved.copy] = moved
        self._items = kept


def _moved(item: Conflict, old: str, new: str) -> Conflict:
    """An item whose copy, and so its original, stands below a folder (written with a slash at the end) that was moved."""
    if not item.copy.startswith(old):
        return item
    return replace(item, copy=new + item.copy[len(old) :], original=new + item.original[len(old) :])
