"""Moving the overlay onto a newer base: what another client pushed meets what was changed here.

The work is done name by name, only where the base changed, and only where this mount has something in memory; everything else
is found at the new base when somebody looks. The rules, in short:

=====================  ==========================================================================================
the Hub's side          and here
=====================  ==========================================================================================
unchanged               whatever was done here stays
changed                 untouched: the Hub's shows; a file gets a new inode, a folder keeps its own
changed                 removed: the edit survives, the name comes back
removed                 changed: the edit survives, with the folders it needs
changed or removed      open for writing: as if unchanged, until something is written; then as changed
changed, both folders   merged inside, by these rules
changed, same content   nothing to do
one of them empty       the written file wins
file against folder     the folder keeps the name
else                    the Hub's keeps the name, ours stands beside it under a conflict name
=====================  ==========================================================================================

First a plan is made, which may want more of either base and changes nothing; then it is carried out without an await.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bucketfs.ops import Conflict
from bucketfs.types import Cid, Kind, Link, NodeAttributes
from bucketfs.vfs.conflict import conflict_name
from bucketfs.vfs.displaced import may_be_written
from bucketfs.vfs.facts import AttributesChanged, EntryChanged, EntryGone, Invalidation
from bucketfs.vfs.frozen import FrozenDirectory, Picture
from bucketfs.vfs.inodes import Number
from bucketfs.vfs.nodes import DirectoryNode, FileNode, Node
from bucketfs.vfs.view import SEED, Displaced
from bucketfs.vfs.volume import Volume


@dataclass(frozen=True, slots=True)
class BuiltNode:
    """What a push made of a dirty node when it had ``version`` and stood at ``name`` in ``parent`` (the root in none).

    ``gone`` are the names of a directory that the push took away.
    """

    version: int
    link: Link
    parent: DirectoryNode | None
    name: bytes
    gone: frozenset[bytes] = frozenset()


def built_of(picture: Picture, links: Mapping[Node, Link]) -> dict[Node, BuiltNode]:
    """What a push made of the nodes of ``picture``. ``links`` has the link of each."""
    places: dict[Node, tuple[DirectoryNode, bytes]] = {}
    gone: dict[Node, frozenset[bytes]] = {}
    for frozen in picture.nodes:
        if isinstance(frozen, FrozenDirectory):
            gone[frozen.node] = frozenset(name for name, change in frozen.changes.items() if change is None)
            for name, change in frozen.changes.items():
                if change is not None and not isinstance(change, Link):
                    places[change.node] = frozen.node, name
    built: dict[Node, BuiltNode] = {}
    for frozen in picture.nodes:
        node = frozen.node
        parent, name = places.get(node, (None, b""))
        built[node] = BuiltNode(frozen.version, links[node], parent, name, gone.get(node, frozenset()))
    return built


@dataclass(slots=True)
class Rebased:
    """What a rebase did: what the kernel must hear, and the conflicts that it left, which are on `Volume.conflicts` by now."""

    invalidations: list[Invalidation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


async def rebase_onto(
    volume: Volume, new: Cid, built: Mapping[Node, BuiltNode], *, host: str, when: str, mine: bool = False
) -> Rebased:
    """Let the overlay rest on the root ``new``. ``built`` says what dirty nodes would be pushed as, where that is known.
    ``mine``: the root is one that was proposed from here, so what is here is the newer state of all that it changed.

    Awaits only while it fetches what the plan needs; the change itself is made at once. Raises Unavailable, TimedOut, Corrupt
    with nothing changed.
    """

    def attempt() -> Rebased:
        plan = _Plan(volume, built, host, when, mine)
        plan.tree(Link(new, 0))
        for act in plan.acts:
            act()
        volume.base = new
        for node in plan.settled:
            node.settle()
        plan.done.conflicts = [copy.conflict(new, volume.owner.now_ns()) for copy in plan.copies]
        for conflict in plan.done.conflicts:
            volume.conflicts.add(conflict)
        return plan.done

    return await volume.lens.settle(attempt)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One version of what both sides changed at ``name`` in ``parent``, beside it: ours, or the Hub's."""

    parent: DirectoryNode
    name: bytes
    copy: bytes
    ours: bool

    def conflict(self, root: Cid, now_ns: int) -> Conflict:
        """What the user is told. After the acts: the parent may have moved in them."""
        under = self.parent.volume.path_under
        return Conflict(under(self.parent, self.copy), under(self.parent, self.name), self.ours, root, now_ns)


class _Plan:
    """Decisions collected before anything changes."""

    def __init__(self, volume: Volume, built: Mapping[Node, BuiltNode], host: str, when: str, mine: bool) -> None:
        self.mine = mine
        self.volume = volume
        self.built = built
        self.host = host
        self.when = when
        self.acts: list[Callable[[], None]] = []
        self._folders: list[tuple[DirectoryNode, Link | None]] = []
        self.settled: list[Node] = []
        self.copies: list[_Copy] = []
        self.done = Rebased()

    def tree(self, theirs: Link) -> None:
        """Plan for everything. Folders inside folders wait in a list: a path may have more levels than Python has frames. What is
        planned for one folder does not depend on what was done to another, so their order is free."""
        self.directory(self.volume.root, theirs)
        while self._folders:
            self._directory(*self._folders.pop())

    def directory(self, node: DirectoryNode, theirs: Link | None) -> None:
        """Plan, later, for a folder that both sides have (``theirs`` None: that the Hub's side removed, and that is dirty
        here)."""
        self._folders.append((node, theirs))

    def _directory(self, node: DirectoryNode, theirs: Link | None) -> None:
        if node.link is not None and theirs is not None and node.link.cid == theirs.cid:
            return
        old = self._entries(node, node.link)
        new = self._entries(node, theirs)
        taken = set(new) | set(node.children)
        for name in list(dict.fromkeys([*node.overrides, *node.children])):
            was, now = old.get(name), new.get(name)
            if (was and was.cid) != (now and now.cid):
                self._name(node, name, now, taken)
        if node.lookups or node is self.volume.root:
            fresh = [name for name in new if name not in old and name not in node.children]
            self.done.invalidations += [EntryChanged(node.inode, name) for name in fresh]
            self.done.invalidations.append(AttributesChanged(node.inode))
        attributes = node.attributes if theirs is None else self._merged(node, self.volume.lens.info(theirs).attributes)
        self.acts.append(lambda: self._rest(node, theirs))
        self.acts.append(lambda: setattr(node, "attributes", attributes))

    def _merged(self, node: DirectoryNode, theirs: NodeAttributes) -> NodeAttributes:
        """The attributes of a folder of both sides. One that gained an entry here is changed, but only its mtime is: mode and
        owners are ours where they were set here, else the Hub's."""
        ours = node.attributes
        if not node.changed:
            return theirs
        if self.mine or node.link is None:
            return ours
        was = self.volume.lens.info(node.link).attributes
        return replace(
            ours,
            mode=theirs.mode if ours.mode == was.mode else ours.mode,
            uid=theirs.uid if ours.uid == was.uid else ours.uid,
            gid=theirs.gid if ours.gid == was.gid else ours.gid,
        )

    def _entries(self, node: DirectoryNode, link: Link | None) -> Mapping[bytes, Link]:
        if link is None:
            return {}
        entries = self.volume.lens.directory(link.cid).entries
        return {name: link for name, link in entries.items() if name != SEED} if node is self.volume.root else entries

    def _rest(self, node: DirectoryNode, theirs: Link | None) -> None:
        node.link = theirs
        if theirs is None:
            # The folder is gone at the Hub and lives on for what was changed inside it.
            node.changed = True
        self.settled.append(node)

    def _name(self, parent: DirectoryNode, name: bytes, theirs: Link | None, taken: set[bytes]) -> None:
        """Plan for one name whose base changed."""
        ours = parent.children.get(name)
        overriding = name in parent.overrides
        if self.mine and (overriding or (ours is not None and ours.dirty)):
            self._newer(parent, ours, theirs, overriding)
            return
        if ours is None:
            # Removed here. Where the Hub's side changed it the edit survives; where it removed it too, all agree.
            self.acts.append(lambda: _drop(parent, name))
            if theirs is not None:
                self.done.invalidations.append(EntryChanged(parent.inode, name))
            return
        if not overriding and not ours.dirty:
            self._untouched(parent, ours, theirs)
        elif theirs is None:
            self._survives(parent, ours, overriding)
        else:
            self._both(parent, ours, theirs, overriding, taken)

    def _newer(self, parent: DirectoryNode, ours: Node | None, theirs: Link | None, overriding: bool) -> None:
        """The Hub has an older state of ours: ours stands, as an override of it."""
        if ours is None or overriding:
            return
        if isinstance(ours, DirectoryNode) and theirs is not None and self._kind(theirs) is Kind.DIRECTORY:
            self.directory(ours, theirs)
        else:
            self.acts.append(lambda: parent.override(ours.name, ours))

    def _untouched(self, parent: DirectoryNode, ours: Node, theirs: Link | None) -> None:
        if theirs is not None and isinstance(ours, DirectoryNode) and self._kind(theirs) is Kind.DIRECTORY:
            self.directory(ours, theirs)
            return
        self._let_go(parent, ours, theirs is None)

    def _let_go(self, parent: DirectoryNode, ours: Node, gone: bool) -> None:
        """The node is not what its name stands for any more; open handles keep reading it to the end, and what they
        write brings it back (see `displaced`)."""
        name = ours.name
        if ours.lookups:
            told = EntryGone(parent.inode, name, ours.inode) if gone else EntryChanged(parent.inode, name)
            self.done.invalidations.append(told)

        def act() -> None:
            self.volume.numbers.drop(ours.inode, parent.inode, name)
            parent.detach(ours)
            parent.overrides.pop(name, None)
            if may_be_written(ours):
                self.volume.displaced[ours] = Displaced(parent, self.host, self.when)
            self.volume.reclaim(ours)

        self.acts.append(act)

    def _survives(self, parent: DirectoryNode, ours: Node, overriding: bool) -> None:
        """Removed at the Hub, changed here."""
        if isinstance(ours, DirectoryNode) and not overriding:
            self.directory(ours, None)
        if not overriding:
            self.acts.append(lambda: parent.override(ours.name, ours))

    def _both(self, parent: DirectoryNode, ours: Node, theirs: Link, overriding: bool, taken: set[bytes]) -> None:
        """Changed on both sides."""
        name = ours.name
        built = self.built.get(ours)
        if built is not None and built.link.cid == theirs.cid:
            self.acts.append(lambda: self._agree(parent, ours, theirs, built.version, overriding))
            return
        their_kind = self._kind(theirs)
        if isinstance(ours, DirectoryNode) and their_kind is Kind.DIRECTORY and (ours.link is None or not overriding):
            self.directory(ours, theirs)
            if overriding:
                self.acts.append(lambda: _drop(parent, name))
            return
        if isinstance(ours, FileNode) and their_kind is Kind.FILE:
            if ours.content.size_bytes == 0:
                self._let_go(parent, ours, False)
                return
            if self.volume.lens.info(theirs).size_bytes == 0:
                self.acts.append(lambda: parent.override(name, ours))
                return
        copy = conflict_name(name, self.host, self.when, lambda candidate: candidate in taken)
        taken.add(copy)
        theirs_beside = isinstance(ours, DirectoryNode) and their_kind is not Kind.DIRECTORY
        self.copies.append(_Copy(parent, name, copy, ours=not theirs_beside))
        self.done.invalidations += [EntryChanged(parent.inode, name), EntryChanged(parent.inode, copy)]
        if theirs_beside:
            self._theirs_beside(parent, name, copy, theirs, ours)
        else:
            self.acts.append(lambda: self._ours_beside(parent, ours, copy))

    def _agree(self, parent: DirectoryNode, ours: Node, theirs: Link, version: int, overriding: bool) -> None:
        """Both sides made the same of it: ours rests on theirs, dirty only if it changed since it was built."""
        if overriding:
            parent.overrides.pop(ours.name)
        if isinstance(ours, FileNode) and ours.version == version:
            ours.content.layers.clear()
            ours.content.rest_on(theirs.cid, ours.content.size_bytes, ())
        if isinstance(ours, DirectoryNode) and ours.version == version:
            self._agree_below(ours)
        ours.link = theirs
        self.volume.remember(ours)
        ours.changed = ours.version != version
        self.settled.append(ours)

    def _agree_below(self, directory: DirectoryNode) -> None:
        """The directory has the names that it was built with, and rests on what was built: so does all below it that is still
        as it was. What was moved or changed since stands as it is, as an override."""
        waiting = [directory]
        for directory in waiting:  # which grows on the way
            waiting += self._agree_inside(directory)

    def _agree_inside(self, directory: DirectoryNode) -> list[DirectoryNode]:
        """The same for the names in one directory; the directories of which it is to be done next."""
        below: list[DirectoryNode] = []
        for child in list(directory.children.values()):
            name, built = child.name, self.built.get(child)
            if built is None or (built.parent, built.name) != (directory, name):
                continue
            if built.version != child.version:
                directory.overrides[name] = child
                continue
            directory.overrides.pop(name, None)
            child.link = built.link
            self.volume.remember(child)
            child.changed = False
            if isinstance(child, FileNode):
                child.content.layers.clear()
                child.content.rest_on(built.link.cid, child.content.size_bytes, ())
            elif isinstance(child, DirectoryNode):
                below.append(child)
            self.settled.append(child)
        for name in self.built[directory].gone:
            if name in directory.overrides and directory.overrides[name] is None:
                del directory.overrides[name]
        return below

    def _ours_beside(self, parent: DirectoryNode, ours: Node, copy: bytes) -> None:
        name = ours.name
        self.volume.numbers.drop(ours.inode, parent.inode, name)
        parent.overrides.pop(name, None)
        parent.detach(ours)
        parent.override(copy, ours)
        self.volume.remember(ours)
        parent.touch()

    def _theirs_beside(self, parent: DirectoryNode, name: bytes, copy: bytes, theirs: Link, ours: Node) -> None:
        info = self.volume.lens.info(theirs)

        def act() -> None:
            when_ns = info.attributes.mtime_ns or self.volume.updated_at_ns
            number = Number(self.volume.numbers.fresh(), when_ns, when_ns)
            node = self.volume.node_of(theirs, number)
            parent.override(copy, node)
            parent.override(name, ours)
            self.volume.remember(node)
            parent.touch()

        self.acts.append(act)

    def _kind(self, link: Link) -> Kind:
        return self.volume.lens.info(link).kind


def _drop(parent: DirectoryNode, name: bytes) -> None:
    parent.overrides.pop(name, None)
