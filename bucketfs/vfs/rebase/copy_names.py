"""The names that conflict copies get in one plan of a rebase. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bucketfs.types import Link
from bucketfs.vfs.rebase.tree_reader import Sight
from bucketfs.vfs.tree.conflict_name import conflict_name
from bucketfs.vfs.tree.node import DirectoryNode


class Copies:
    """``theirs`` is what the Hub's side has of folders, as far as that differs."""

    def __init__(self, sight: Sight, theirs: Mapping[DirectoryNode, Link | None], host: str, when: str) -> None:
        self._sight = sight
        self._theirs = theirs
        self._host = host
        self._when = when
        self._given: set[tuple[DirectoryNode, bytes]] = set()

    def name(self, parent: DirectoryNode, name: bytes) -> bytes:
        """A name that nothing in ``parent`` has, here or at the Hub, and no other copy was given. Raises Unseen."""
        theirs = self._theirs.get(parent, parent.link)

        def taken(candidate: bytes) -> bool:
            if candidate in parent.children or (parent, candidate) in self._given:
                return True
            return theirs is not None and self._sight.entry(theirs.cid, candidate) is not None

        copy = conflict_name(name, self._host, self._when, taken)
        self._given.add((parent, copy))
        return copy
