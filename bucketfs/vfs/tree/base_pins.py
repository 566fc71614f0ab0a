"""Which blocks of the base the pending changes need, so that they can be pinned. Pure.

A change means something on its base only: which names a folder had, what stood at a name that is gone, what a file was before.
A replay and a rebase ask for that. So it is noted here in the moment of the change, and `bucketfs.sync` pins the blocks:

    FOLDER    a folder with something dirty in it: all blocks of it, of a sharded one every shard
    FILE      a file that was changed or moved: its root block. Its bytes are not kept (see docs/semantics.md)
    TREE      a folder that was removed or moved: it, and the folders below, since the Hub's side may change something inside

A pin is never taken back. But each checkpoint of the journal begins the list anew, and `BasePins.survey` finds what the
changes that are still pending need."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bucketfs.dag import RAW, codec_of, identity_block
from bucketfs.types import Cid, Inode
from bucketfs.vfs.tree.node import DirectoryNode, Node, NodeTree


class PinScope(enum.Enum):
    """How much of what a CID names is needed."""

    FOLDER = "its own blocks"
    FILE = "its root block"
    TREE = "it, and the folders below"


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing that the pending changes need."""

    cid: Cid
    scope: PinScope


class BasePins:
    """The pins of one volume. All methods are immediate. ``on_pin`` is called when there is something new to `take`."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts the checkpoints: a pin of an older generation is not needed any more once the newer one was surveyed."""
        self.on_pin: Callable[[], None] = lambda: None
        self._new: dict[Pin, None] = {}
        self._pins: set[Pin] = set()
        self._folders: set[tuple[Inode, Cid]] = set()

    def restart(self) -> None:
        """The journal begins with what is dirty now."""
        self.generation += 1
        self._new.clear()
        self._pins.clear()
        self._folders.clear()
        self.on_pin()

    @property
    def waiting_count(self) -> int:
        """How much is new to `take`."""
        return len(self._new)

    def take(self) -> list[Pin]:
        """What was added since the last call."""
        new, self._new = list(self._new), {}
        return new

    def take_again(self) -> None:
        """What was taken was lost: all pins are new."""
        self._new = dict.fromkeys(self._pins)
        self.on_pin()

    def add_dirty(self, node: Node) -> None:
        """``node`` is dirty: pin it, and the folders above it."""
        at: Node | None = node
        while at is not None:
            if at.link is not None:
                if not isinstance(at, DirectoryNode):
                    self.add(at.link.cid, PinScope.FILE)
                # By number, too: equal folders may stand at two places, with other folders above them.
                elif (at.inode, at.link.cid) in self._folders:
                    return  # as were those above it
                else:
                    self._folders.add((at.inode, at.link.cid))
                    self.add(at.link.cid, PinScope.FOLDER)
            at = at.parent

    def add_moved(self, node: Node) -> None:
        """``node`` goes off its name, or stands where the base has something else."""
        if node.link is not None:
            self.add(node.link.cid, PinScope.TREE if isinstance(node, DirectoryNode) else PinScope.FILE)

    def add(self, cid: Cid, scope: PinScope) -> None:
        """Pin what ``cid`` names. (A raw block says all that is asked for by its link.)"""
        pin = Pin(cid, scope)
        if pin in self._pins or codec_of(cid) == RAW or identity_block(cid) is not None:
            return
        self._pins.add(pin)
        self._new[pin] = None
        self.on_pin()

    def survey(self, tree: NodeTree) -> Iterator[tuple[Cid | None, list[bytes]]]:
        """Pin all that is dirty, a folder at each step, so that the caller may let others run in between; what becomes dirty
        meanwhile is pinned by `add_dirty`. Yields what is to be looked up: a folder of the base (None: one that was made here), and
        its names at which something else stands."""
        waiting = [tree.root] if tree.root.dirty else []
        while waiting:
            directory = waiting.pop()
            self.add_dirty(directory)
            for child in directory.dirty_children:
                if isinstance(child, DirectoryNode):
                    waiting.append(child)
                elif child.link is not None:
                    self.add_dirty(child)
            for override in directory.overrides.values():
                if override is not None and override.link is not None:
                    self.add_moved(override)
            yield None if directory.link is None else directory.link.cid, list(directory.overrides)
