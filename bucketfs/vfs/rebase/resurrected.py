"""Folders that were removed here while the Hub's side changed something inside them.

The change survives, with the folders it needs; what did not change there stays removed. So such a folder is *resurrected*: the
Hub's, without all of the names that are as they were. Where too much was changed to be gone through, all of it comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bucketfs.dag import Outcome, Verdict, judge
from bucketfs.types import Link
from bucketfs.vfs.rebase.limits import FOLDERS_MAX
from bucketfs.vfs.rebase.plan import RebasePlan
from bucketfs.vfs.rebase.sides import TwoTrees
from bucketfs.vfs.tree import AttributesChanged, DirectoryNode, EntryChanged, together

Followed = Callable[[Link, Link, DirectoryNode | None, bytes], bool]
"""Whether what was at a name stands elsewhere here, so that what the Hub's side made of it goes there."""


@dataclass(slots=True, eq=False)
class _Resurrected:
    """One folder, in a directory or in another such folder. Of it, ``gone`` stays removed; ``lives`` when something survives;
    ``whole`` when it is just what the Hub has. ``count``, of the topmost one, is how many there are in it."""

    above: _Resurrected | DirectoryNode
    name: bytes
    was: Link
    now: Link
    lives: bool
    gone: list[bytes] = field(default_factory=list)
    inside: list[_Resurrected] = field(default_factory=list)
    count: int = 0
    whole: bool = False

    @property
    def top(self) -> _Resurrected:
        """The one that stands in a directory."""
        at = self
        while isinstance(at.above, _Resurrected):
            at = at.above
        return at


class Resurrected:
    """All of them in one plan."""

    def __init__(self, trees: TwoTrees, plan: RebasePlan, followed: Followed) -> None:
        self._trees = trees
        self._plan = plan
        self._followed = followed
        self._all: list[_Resurrected] = []
        self._next: list[Callable[[], None]] = []

    def add(self, parent: DirectoryNode, name: bytes, was: Link, now: Link, *, keep: bool) -> None:
        """A folder that was removed here and changed there; ``keep`` when its own attributes were changed."""
        self._add(_Resurrected(parent, name, was, now, keep))

    def _add(self, folder: _Resurrected) -> None:
        folder.top.count += 1
        self._all.append(folder)
        self._next.append(partial(self._look, folder))

    def next(self) -> list[Callable[[], None]]:
        """What is to be looked at next; each may raise Wanted."""
        tasks, self._next = self._next, []
        return tasks

    def _look(self, folder: _Resurrected) -> None:
        if folder.top.count > FOLDERS_MAX:
            return
        changes = self._trees.changes(folder.was.cid, folder.now.cid)
        if changes is None:
            folder.lives = True  # the base is lost, and with it what was changed
            return
        both = [(name, was, now) for name, (was, now) in changes.items() if was is not None and now is not None]
        fates = self._fates(both)
        gone = [name for name in self._trees.entries(folder.now.cid) if name not in changes]
        # What the Hub's side added meets nothing here, and always survives.
        folder.lives |= len(both) < sum(now is not None for _, now in changes.values())
        folder.gone += gone
        for (name, was, now), fate in zip(both, fates, strict=True):
            if fate is None:
                folder.gone.append(name)
            elif fate.outcome is Outcome.THEIRS_INSIDE:
                below = _Resurrected(folder, name, was, now, fate.keep)
                folder.inside.append(below)
                self._add(below)
            else:
                folder.lives = True

    def _fates(self, both: list[tuple[bytes, Link, Link]]) -> list[Verdict | None]:
        """What becomes of names that the Hub's side changed; None for what goes to where it was moved here."""

        def fate(name: bytes, was: Link, now: Link) -> Verdict | None:
            old, new = together(self._trees.node, (was, now))
            return None if self._followed(was, now, None, name) else judge(old.entry, None, new.entry)

        return together(lambda one: fate(*one), both)

    def decide(self) -> None:
        """All was looked at: plan for those that live."""
        for folder in self._all:
            if folder.count > FOLDERS_MAX:
                folder.gone, folder.inside, folder.lives = [], [], True
        # Inner folders stand behind the ones around them. No recursion: a path may have more levels than Python has frames.
        for folder in reversed(self._all):
            for below in folder.inside:
                if below.lives:
                    folder.lives = True
                else:
                    folder.gone.append(below.name)
            folder.inside = [below for below in folder.inside if below.lives]
            folder.whole = not folder.gone and all(below.whole for below in folder.inside)
        for folder in self._all:
            if isinstance(folder.above, DirectoryNode) and folder.lives:
                self._bring_back(folder.above, folder)

    def _bring_back(self, parent: DirectoryNode, folder: _Resurrected) -> None:
        self._plan.drop(parent, folder.name)
        self._plan.invalidate(EntryChanged(parent.inode, folder.name), AttributesChanged(parent.inode))
        if not folder.whole:
            self._plan.add(partial(self._make, parent, folder))

    def _make(self, parent: DirectoryNode, folder: _Resurrected) -> None:
        waiting = [(parent, folder)]
        for above, one in waiting:  # which grows on the way
            node = self._plan.attach_directory(above, one.name, self._trees.node(one.now))
            for name in one.gone:
                node.override(name, None)
            waiting += [(node, below) for below in one.inside if not below.whole]
