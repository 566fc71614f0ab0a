"""What a push carries, and when it is no longer worth carrying: most of its bytes belong to files that were removed since.

Files that are removed one by one are left out of a push while it goes on (see `build`). But what was built of them already waits to
be sent, and over a slow link that is minutes in which nothing else gets to the Hub. So a push that has lost most of what it carries
is given up, and another one begins with what is there now.
"""

from __future__ import annotations

import trio

from bucketfs.types import DraftId
from bucketfs.vfs import FileNode, FrozenFile, Node, Picture

LOST_BYTES_MIN = 1 << 20
"""A push that has lost less goes on: it is over soon."""


class Load:
    """What one push carries. ``scope`` is around the sending; with ``may_drop`` it is cancelled when that is not worth it."""

    def __init__(self, picture: Picture, *, may_drop: bool) -> None:
        self.scope = trio.CancelScope()
        self._may_drop = may_drop
        self._files: dict[Node, FrozenFile] = {
            frozen.node: frozen for frozen in picture.nodes if isinstance(frozen, FrozenFile) and frozen.layers
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

    def drafts(self) -> set[DraftId]:
        """The drafts that the push has to read: not those of files that were removed."""
        return {layer.draft.id for node, frozen in self._files.items() if not node.orphan for layer in frozen.layers}


def _drafted(frozen: FrozenFile) -> int:
    return sum(layer.extents.size_bytes for layer in frozen.layers)
