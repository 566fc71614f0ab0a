"""Folders that were removed here while the Hub's side changed something inside them.

The change survives, with the folders it needs; what nobody changed stays removed. So such a folder comes back as a *ghost*: the
Hub's, without all of the names that are as they were. Where too much was changed to be gone through, all of it comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bucketfs.dag import Act, Verdict, judge
from bucketfs.types import Link
from bucketfs.vfs.rebase.edits import Acts
from bucketfs.vfs.rebase.limits import FOLDERS_MAX
from bucketfs.vfs.rebase.tree_reader import Sight, Unseen
from bucketfs.vfs.tree.node import DirectoryNode
from bucketfs.vfs.tree.stat_types import AttributesChanged, EntryChanged

Followed = Callable[[Link, Link, DirectoryNode | None, bytes], bool]
"""Whether what was at a name stands elsewhere here, and what the Hub's side made of it goes there."""


@dataclass(slots=True, eq=False)
class _Ghost:
    """``above`` is the ghost or the directory it is in. ``gone`` stays removed of it; ``lives`` when something survives.
    ``count``, of the topmost one, is how many there are in it."""

    above: _Ghost | DirectoryNode
    name: bytes
    was: Link
    now: Link
    lives: bool
    gone: list[bytes] = field(default_factory=list)
    inside: list[_Ghost] = field(default_factory=list)
    count: int = 0

    @property
    def top(self) -> _Ghost:
        """The one that stands in a directory."""
        at = self
        while isinstance(at.above, _Ghost):
            at = at.above
        return at

    @property
    def whole(self) -> bool:
        """Whether it is just what the Hub has."""
        return not self.gone and all(ghost.whole for ghost in self.inside)


class Ghosts:
    """All of them in one plan."""

    def __init__(self, sight: Sight, acts: Acts, followed: Followed) -> None:
        self._sight = sight
        self._acts = acts
        self._followed = followed
        self._all: list[_Ghost] = []
        self._next: list[Callable[[], None]] = []

    def add(self, parent: DirectoryNode, name: bytes, was: Link, now: Link, *, keep: bool) -> None:
        """A folder that was removed here and changed there; ``keep`` when it itself was changed."""
        self._add(_Ghost(parent, name, was, now, keep))

    def _add(self, ghost: _Ghost) -> None:
        ghost.top.count += 1
        self._all.append(ghost)
        self._next.append(partial(self._look, ghost))

    def next(self) -> list[Callable[[], None]]:
        """What is to be looked at next; each may raise Unseen."""
        tasks, self._next = self._next, []
        return tasks

    def _look(self, ghost: _Ghost) -> None:
        if ghost.top.count > FOLDERS_MAX:
            return
        changes = self._sight.changes(ghost.was.cid, ghost.now.cid)
        if changes is None:
            ghost.lives = True  # nobody knows any more what of it was changed
            return
        both = [(name, was, now) for name, (was, now) in changes.items() if was is not None and now is not None]
        fates = self._fates(both)
        gone = [name for name in self._sight.entries(ghost.now.cid) if name not in changes]
        ghost.lives |= len(both) < sum(now is not None for _, now in changes.values())
        ghost.gone += gone
        for (name, was, now), fate in zip(both, fates, strict=True):
            if fate is None:
                ghost.gone.append(name)
            elif fate.act is Act.THEIRS_INSIDE:
                below = _Ghost(ghost, name, was, now, fate.keep)
                ghost.inside.append(below)
                self._add(below)
            else:
                ghost.lives = True

    def _fates(self, both: list[tuple[bytes, Link, Link]]) -> list[Verdict | None]:
        """What becomes of names that the Hub's side changed; None for what goes to where it was moved here."""
        fates: list[Verdict | None] = []
        lacking = False
        for name, was, now in both:
            try:
                verdict = judge(self._sight.seen(was).entry, None, self._sight.seen(now).entry)
                fates.append(None if self._followed(was, now, None, name) else verdict)
            except Unseen:
                lacking = True
        if lacking:
            raise Unseen
        return fates

    def settle(self) -> None:
        """All was looked at: plan for those that live."""
        for ghost in self._all:
            if ghost.count > FOLDERS_MAX:
                ghost.gone, ghost.inside, ghost.lives = [], [], True
        for ghost in reversed(self._all):
            for below in ghost.inside:
                if below.lives:
                    ghost.lives = True
                else:
                    ghost.gone.append(below.name)
            ghost.inside = [below for below in ghost.inside if below.lives]
        for ghost in self._all:
            if isinstance(ghost.above, DirectoryNode) and ghost.lives:
                self._plan(ghost.above, ghost)

    def _plan(self, parent: DirectoryNode, ghost: _Ghost) -> None:
        self._acts.drop(parent, ghost.name)
        self._acts.tell(EntryChanged(parent.inode, ghost.name), AttributesChanged(parent.inode))
        if not ghost.whole:
            self._acts.add(partial(self._make, parent, ghost))

    def _make(self, parent: DirectoryNode, ghost: _Ghost) -> None:
        waiting = [(parent, ghost)]
        for above, one in waiting:  # which grows on the way
            node = self._acts.attach(above, one.name, one.now, self._sight.seen(one.now))
            for name in one.gone:
                node.override(name, None)
            waiting += [(node, below) for below in one.inside if not below.whole]
