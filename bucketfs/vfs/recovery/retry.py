"""Doing what waited for lost blocks (see `stuck`), once the Hub has them again, or others in their place.

Where nobody has touched a name since, what waited is done as a replay would have done it. Where another client has (or where the
old folder cannot be read, so that nobody knows), it must not take that client's work away: what was made here stands beside what
is there, a removal is not done any more, and what was written to a part of a file goes on waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from bucketfs.errors import Corrupt, NotADirectory, NotFound
from bucketfs.ops import Conflict, Create, MakeDirectory, Op, Remove, Rename, SetContent
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.recovery.checkpoint import misfit, node_at, place_at, replayed
from bucketfs.vfs.recovery.overtaken import free_place
from bucketfs.vfs.tree.content import Content
from bucketfs.vfs.tree.deferred import Making, builds_on, moved, paths_of
from bucketfs.vfs.tree.namespace import DEFAULT_MODE
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node
from bucketfs.vfs.tree.stat_types import AttributesChanged, EntryChanged, Invalidation
from bucketfs.vfs.tree.volume import Volume, is_new_here


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of a retry: lines for what could not be done any more, and what the kernel must be told."""

    complaints: list[str] = field(default_factory=list)
    invalidations: list[Invalidation] = field(default_factory=list)


async def retry(volume: Volume, *, host: str, when: str) -> Retried:
    """Do what is stuck, as far as the blocks are there by now. Programs may go on meanwhile. Raises Unavailable, TimedOut; what was
    not done by then is still stuck."""
    done = Retried()
    at = 0
    while at < len(volume.stuck):
        op = volume.stuck[at]
        same = {path: await _as_it_was(volume, path) for path in paths_of(op)}
        try:
            off = await volume.base_tree.load(_Attempt(volume, op, same, host, when, done).make)
        except Corrupt:
            off = False
        except (NotFound, AssertionError) as error:
            done.complaints.append(misfit(op, error))
            volume.stuck = [other for other in volume.stuck if other is not op]
            off = True
        at += not off
    if not volume.stuck:
        volume.stuck_root = Cid(b"")
    return done


async def note_base(volume: Volume) -> None:
    """The base is another one. When it has what the old one had at all names that something waits for, that may as well have been
    done on it, and the old one is not needed to tell. Raises Unavailable, TimedOut."""
    for path in dict.fromkeys(path for op in volume.stuck for path in paths_of(op)):
        if not await _as_it_was(volume, path):
            return
    if volume.stuck:
        volume.stuck_root = volume.base


async def _as_it_was(volume: Volume, path: str) -> bool:
    """Whether the base has at a path what it had when the ops that wait were made. Not when nobody knows."""
    old: Link | None = Link(volume.stuck_root, 0)
    new: Link | None = Link(volume.base, 0)
    for name in path.encode().split(b"/") if path else []:
        if old is None or new is None or old.cid == new.cid:
            break
        try:
            old, new = [(await _entries(volume, link)).get(name) for link in (old, new)]
        except (Corrupt, NotFound, NotADirectory):
            return False
    return (old and old.cid) == (new and new.cid)


async def _entries(volume: Volume, link: Link) -> Mapping[bytes, Link]:
    return (await volume.base_tree.load(partial(volume.base_tree.directory, link.cid))).entries


@dataclass(frozen=True, slots=True)
class _Attempt:
    """At one op. ``same`` says of its paths whether nobody has touched them."""

    volume: Volume
    op: Op
    same: Mapping[str, bool]
    host: str
    when: str
    done: Retried

    def make(self) -> bool:
        """Do it if it is still stuck and waits for no other; whether it is off the list. An attempt."""
        for before in self.volume.stuck:
            if before is self.op:
                self._make()
                return True
            if builds_on(self.op, before):
                return False
        return False

    def _make(self) -> None:
        """Raises Corrupt for what goes on waiting."""
        op = self.op
        if isinstance(op, Remove) and not self._may_replace(op.path):
            self.done.complaints.append(f"Remove {op.path!r}: it is not what it was, and stays")
            self._do()
        elif isinstance(op, Making):
            self._place(op, op.path)
        elif isinstance(op, Rename) and not op.exchange:
            node_at(self.volume, op.old)
            self._place(op, op.new)
        elif isinstance(op, SetContent) and (self._there(op.path) is None or not self._may_replace(op.path)):
            if op.lower_limit_bytes:
                raise Corrupt(f"nobody knows any more what {op.path!r} was")
            inode = self.volume.numbers.fresh()
            mode = DEFAULT_MODE[Kind.FILE]
            self._beside(op.path, Create(op.path, inode, mode, None, None, op.mtime_ns, op.time_ns), op)
        else:
            self._do(op)

    def _place(self, op: Making | Rename, path: str) -> None:
        if self._may_replace(path):
            self._do(op)
        elif isinstance(op, MakeDirectory) and isinstance(self._there(path), DirectoryNode):
            self._do()
        else:
            self._beside(path, op)

    def _beside(self, path: str, *acts: Op) -> None:
        """What would make something at ``path`` makes it elsewhere, and what waits goes along."""
        volume = self.volume
        free = free_place(volume, path, self.host, self.when)
        there, above = self._there(path), path.rpartition("/")[0]
        self._do(*(moved(act, path, free) for act in acts))
        volume.stuck = [moved(other, path, free) for other in volume.stuck]
        if there is not None and free.rpartition("/")[0] == above:
            volume.conflicts.add(Conflict(free, path, True, volume.base, volume.owner.now_ns()))

    def _do(self, *acts: Op) -> None:
        """Done with these, the op is off the list. Only the first may find that something is lacking, and then none is done."""
        for act in acts:
            if isinstance(act, SetContent):
                self._renumber(act.path)
            replayed(self.volume, act)
            for path in paths_of(act):
                self._tell(path)
        self.volume.stuck = [other for other in self.volume.stuck if other is not self.op]

    def _tell(self, path: str) -> None:
        parent, name = place_at(self.volume, path)
        told = self.done.invalidations
        told += [EntryChanged(parent.inode, name), AttributesChanged(parent.inode)]
        node = parent.children.get(name)
        if node is not None:
            told.append(AttributesChanged(node.inode))

    def _renumber(self, path: str) -> None:
        """Other bytes under a name take another number: the kernel keeps the length of a file that it knows."""
        parent, name = place_at(self.volume, path)
        node = self.volume.find(parent, name)
        if not isinstance(node, FileNode) or node.damaged or node.opens or not node.lookups:
            return
        volume = self.volume
        inode = volume.numbers.fresh()
        fresh = FileNode(volume, inode, node.link, node.attributes, node.ctime_ns, node.fallback_ns, node.content.size_bytes)
        fresh.content, fresh.changed = node.content, node.changed
        held = node.content.base_held_bytes
        node.content = Content(node.content.base, node.content.base_size_bytes)
        node.content.base_held_bytes = held
        node.replaced = True
        volume.registry[inode] = fresh
        overriding = name in parent.overrides
        parent.detach(node)
        if overriding:
            parent.override(name, fresh)
        else:
            parent.attach(name, fresh)
        volume.remember(fresh)
        volume.reclaim(node)

    def _may_replace(self, path: str) -> bool:
        """Whether what the op finds at a path is what it was made for. Not where its folder is gone."""
        try:
            parent, name = place_at(self.volume, path)
        except NotFound:
            return False
        there = self.volume.find(parent, name)
        return there is None or self.same[path] or is_new_here(there)

    def _there(self, path: str) -> Node | None:
        try:
            parent, name = place_at(self.volume, path)
        except NotFound:
            return None
        return self.volume.find(parent, name)


__all__ = ["Retried", "note_base", "retry"]
