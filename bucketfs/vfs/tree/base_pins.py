"""What of the base the overlay stands on, so that it can be kept while changes wait. Pure.

A change means something on its base only: which names a folder had, what stood at a name that is gone, what a file was before.
A replay asks for that, and a rebase. So from its first change on it is noted here, in the moment in which it is made, for
whoever keeps the blocks (`bucketfs.sync`):

    FOLDER    a folder with something dirty in it: all blocks of it, of a sharded one every shard
    FILE      a file that was changed or moved: its root block. Its bytes are not kept (see docs/semantics.md)
    TREE      a folder that was removed or moved: it, and the folders below, since the Hub's side may change something inside

Notes are never taken back. But each checkpoint of the journal begins them anew: what was noted before is behind it then, and
`survey` finds what the overlay stands on still.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bucketfs.dag import RAW, codec_of, identity_block
from bucketfs.types import Cid, Inode
from bucketfs.vfs.tree.node import DirectoryNode, Node, NodeTree


class Stand(enum.Enum):
    """How much of what a CID names is needed."""

    FOLDER = "its own blocks"
    FILE = "its root block"
    TREE = "it, and the folders below"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the overlay stands on."""

    cid: Cid
    stand: Stand


class BasePins:
    """The notes of one volume. Immediate, all of it. ``on_note`` is called when there is something new to `take`."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts the checkpoints: what was noted in an older generation is needed no more when the newer one was surveyed."""
        self.on_note: Callable[[], None] = lambda: None
        self._new: dict[Note, None] = {}
        self._noted: set[Note] = set()
        self._folders: set[tuple[Inode, Cid]] = set()

    def begin(self) -> None:
        """The journal begins with what is dirty now."""
        self.generation += 1
        self._new.clear()
        self._noted.clear()
        self._folders.clear()
        self.on_note()

    @property
    def waiting_count(self) -> int:
        """How much is new to `take`."""
        return len(self._new)

    def take(self) -> list[Note]:
        """What was noted since the last call."""
        new, self._new = list(self._new), {}
        return new

    def again(self) -> None:
        """What was taken was lost: all that was noted is new."""
        self._new = dict.fromkeys(self._noted)
        self.on_note()

    def add_dirty(self, node: Node) -> None:
        """``node`` is dirty: note it, and the folders above it."""
        at: Node | None = node
        while at is not None:
            if at.link is not None:
                if not isinstance(at, DirectoryNode):
                    self.note(at.link.cid, Stand.FILE)
                elif (at.inode, at.link.cid) in self._folders:
                    return  # as were those above it
                else:
                    self._folders.add((at.inode, at.link.cid))
                    self.note(at.link.cid, Stand.FOLDER)
            at = at.parent

    def add_moved(self, node: Node) -> None:
        """``node`` goes off its name, or stands where the base has something else."""
        if node.link is not None:
            self.note(node.link.cid, Stand.TREE if isinstance(node, DirectoryNode) else Stand.FILE)

    def note(self, cid: Cid, stand: Stand) -> None:
        """Something is needed. (A raw block says all that is asked for by its link.)"""
        note = Note(cid, stand)
        if note in self._noted or codec_of(cid) == RAW or identity_block(cid) is not None:
            return
        self._noted.add(note)
        self._new[note] = None
        self.on_note()


def survey(tree: NodeTree, pins: BasePins) -> Iterator[tuple[Cid | None, list[bytes]]]:
    """Note all that is dirty, a folder at each step, so that the caller may let others come in between. What becomes dirty
    meanwhile notes itself. Yields what is to be looked up: a folder of the base (None: one that was made here), and its names at
    which something else stands."""
    waiting = [tree.root] if tree.root.dirty else []
    while waiting:
        directory = waiting.pop()
        pins.add_dirty(directory)
        for child in directory.dirty_children:
            if isinstance(child, DirectoryNode):
                waiting.append(child)
            elif child.link is not None:
                pins.add_dirty(child)
        for override in directory.overrides.values():
            if override is not None and override.link is not None:
                pins.add_moved(override)
        yield None if directory.link is None else directory.link.cid, list(directory.overrides)
