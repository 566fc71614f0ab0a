"""What a push carries, and when it is no longer worth carrying: most of its bytes belong to files that were removed since.

A push carries one moment of the bucket, with the files that were removed since. Over a slow link that may be minutes in which
nothing else gets to the Hub, and their drafts take room all that time. So a push that has lost most of what it carries is given up,
and so is one that holds the drafts of removed files when the disk is short of room; another one begins with what is there now.
"""

from __future__ import annotations

import trio

from bucketfs.types import DraftId
from bucketfs.vfs import FileNode, FrozenFile, Node, Snapshot

LOST_BYTES_MIN = 1 << 20
"""A push that has lost less goes on: it is over soon."""


class PushLoad:
    """What one push carries. ``scope`` is around the sending; with ``may_drop`` it is cancelled when that is not worth it. ``over``
    is set when nothing is read for the push any more."""

    def __init__(self, snapshot: Snapshot, *, may_drop: bool) -> None:
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.garbage_bytes = 0  # of drafts that wait for the push to be over
        self._may_drop = may_drop
        self._files: dict[Node, FrozenFile] = {
            frozen.node: frozen for frozen in snapshot.nodes if isinstance(frozen, FrozenFile) and frozen.layers
        }
        self._bytes = sum(map(_drafted, self._files.values()))
        self._lost: set[Node] = set()
        self._lost_bytes = 0

    def gone(self, node: FileNode) -> None:
        """A file lost its name."""
        frozen = self._files.get(node)
        if frozen is None or node in self._lost:
            return
        self._lost.add(node)
        self._lost_bytes += _drafted(frozen)
        if self._may_drop and self._lost_bytes >= LOST_BYTES_MIN and self._lost_bytes * 2 > self._bytes:
            self.scope.cancel()

    def give_up(self) -> bool:
        """Room is short: end the push if removed files have drafts in it. Whether it ends."""
        if self._may_drop and self._lost:
            self.scope.cancel()
        return self.scope.cancel_called

    def drafts(self) -> set[DraftId]:
        """The drafts that the push has to read."""
        return {layer.draft.id for frozen in self._files.values() for layer in frozen.layers}


def _drafted(frozen: FrozenFile) -> int:
    return sum(layer.extents.size_bytes for layer in frozen.layers)
