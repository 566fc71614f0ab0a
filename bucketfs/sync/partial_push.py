"""Taking a snapshot apart, so that what the Hub refuses stays here and the rest is pushed.

A *unit* is what is pushed or set aside by itself: a name that was made, replaced or taken away (a new folder with all that is in
it), a file changed in its place, or the attributes of a folder that stays where it is. A unit that is set aside stays dirty and
in the journal, like anything that waits.

Two rules keep a part of a snapshot safe to push. What was moved exists at the Hub only under its old name: while its new place
is set aside, nothing that the base has is taken away or replaced as a whole. And a folder whose entries change gets a new mtime
by that; where the user may not write the folder itself, the mtime does not travel, and that is no loss to report.

A file that the disk here has damaged is left out alone, also of a new folder, which goes without it: the Hub keeps what it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from bucketfs.errors import Corrupt
from bucketfs.roles import PathChange
from bucketfs.types import Cid, Kind, Link, NodeAttributes
from bucketfs.vfs import FrozenDirectory, FrozenFile, FrozenSymlink, Node, Permissions, Snapshot

UnitPath = tuple[bytes, ...]
Frozen = FrozenFile | FrozenSymlink | FrozenDirectory

DIRECTORY_MODE = 0o755

_REASONS = {
    PathChange.ADD: "only the owner of the bucket adds names",
    PathChange.REPLACE: "changing it takes the role of a writer",
    PathChange.REMOVE: "removing it takes the role of an admin",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """``touches`` is what pushing it does at the Hub. ``carries``: something of the base appears there, and when that is one file,
    ``moved`` is that file. ``takes``: what the base has there, ``taken``, goes. ``minor``: nothing but a folder's mtime. ``state``
    is another number once anything in it was changed again."""

    touches: tuple[PathChange, ...]
    carries: bool = False
    takes: bool = False
    minor: bool = False
    state: int = 0
    moved: Link | None = None
    taken: Link | None = None


@dataclass(slots=True)
class Parts:
    """The units of a snapshot; its folders that stay in their places, with where that is and their attributes in the base."""

    units: dict[UnitPath, Unit] = field(default_factory=dict)
    places: dict[Node, UnitPath] = field(default_factory=dict)
    plain: dict[Node, NodeAttributes] = field(default_factory=dict)


@dataclass(slots=True)
class Cut:
    """A part of a snapshot, None when it has none of the wanted units. ``still``: folders of it whose own attributes wait here.
    ``settled``: folders outside of it, of which nothing but an mtime would not travel."""

    snapshot: Snapshot | None
    still: list[Node] = field(default_factory=list)
    settled: list[FrozenDirectory] = field(default_factory=list)


async def parts_of(snapshot: Snapshot) -> Parts:
    """Take a snapshot apart. Awaits only for directories of the base that are not at hand."""
    return await snapshot.volume.load(lambda: _parts(snapshot))


def _parts(snapshot: Snapshot) -> Parts:
    """An attempt."""
    parts = Parts()
    # No recursion here and below: a tree may be deeper than Python's stack.
    waiting: list[tuple[FrozenDirectory, UnitPath]] = [(snapshot.root, ())]
    while waiting:
        directory, at = waiting.pop()
        parts.places[directory.node] = at
        _folder(snapshot, directory, at, parts)
        for name, change in directory.changes.items():
            place = (*at, name)
            if name in directory.overrides:
                parts.units[place] = replace(_override(snapshot, directory, name, change), state=_state(change))
            elif isinstance(change, FrozenDirectory):
                waiting.append((change, place))
            else:
                parts.units[place] = Unit((PathChange.REPLACE,), state=_state(change))
    return parts


def _state(change: Frozen | Link | None) -> int:
    """A number for what was changed, with all that is in it and as it is now."""
    found: set[object] = set()
    waiting: list[Frozen | Link | None] = [change]
    while waiting:
        one = waiting.pop()
        if one is None or isinstance(one, Link):
            found.add(one)
            continue
        found.add((one.node, one.version))
        if isinstance(one, FrozenDirectory):
            waiting += one.changes.values()
    return hash(frozenset(found))


def _folder(snapshot: Snapshot, directory: FrozenDirectory, at: UnitPath, parts: Parts) -> None:
    if directory.base is None:
        return
    plain = snapshot.volume.tree.base_tree.info(directory.base).attributes
    parts.plain[directory.node] = plain
    if _spelt(directory.attributes) != _spelt(plain):
        minor = _spelt(replace(directory.attributes, mtime_ns=plain.mtime_ns)) == _spelt(plain)
        parts.units[at] = Unit((PathChange.REPLACE,), minor=minor)


def _spelt(attributes: NodeAttributes) -> NodeAttributes:
    """With the mode that a folder has which carries none (the format leaves it out)."""
    return replace(attributes, mode=DIRECTORY_MODE) if attributes.mode is None else attributes


def _override(snapshot: Snapshot, directory: FrozenDirectory, name: bytes, change: Frozen | Link | None) -> Unit:
    base_tree = snapshot.volume.tree.base_tree
    known = base_tree.directory(directory.base.cid).entries.get(name) if directory.base is not None else None
    if change is None:
        return Unit((PathChange.REMOVE,) if known is not None else (), takes=True, taken=known)
    carries, moved = _carries(change), _moved_file(snapshot, change)
    if known is None:
        return Unit((PathChange.ADD,), carries=carries, moved=moved)
    # A folder that something else replaces loses what is in it.
    emptied = base_tree.info(known).kind is Kind.DIRECTORY
    touches = (PathChange.REPLACE, PathChange.REMOVE) if emptied else (PathChange.REPLACE,)
    return Unit(touches, carries=carries, takes=True, moved=moved, taken=known)


def _carries(change: Frozen | Link) -> bool:
    """Whether something of the base is in what was made or moved: a new folder may have taken in what is old."""
    waiting: list[Frozen | Link | None] = [change]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Link) or (isinstance(one, FrozenFile | FrozenDirectory) and one.base is not None):
            return True
        if isinstance(one, FrozenDirectory):
            waiting += one.changes.values()
    return False


def _moved_file(snapshot: Snapshot, change: Frozen | Link) -> Link | None:
    """The file of the base that a change is, or is made on; None for anything else."""
    link = change if isinstance(change, Link) else change.base if isinstance(change, FrozenFile) else None
    if link is None or snapshot.volume.tree.base_tree.info(link).kind is not Kind.FILE:
        return None
    return link


async def not_in_base(snapshot: Snapshot, parts: Parts, places: Collection[UnitPath]) -> set[UnitPath]:
    """Those of ``places`` that bring one file which the base has nowhere where a unit takes something: another client removed or
    replaced it. While they are set aside there is nothing to keep for them. Awaits for directories of the base."""
    moved = {place: link.cid for place in places if (link := parts.units[place].moved) is not None}
    taken = [unit.taken for unit in parts.units.values() if unit.taken is not None]
    if not moved:
        return set()
    try:
        kept = await snapshot.volume.load(lambda: _found_below(snapshot, taken, frozenset(moved.values())))
    except Corrupt:
        return set()  # a folder that goes cannot be read: it may hold them
    return {place for place, cid in moved.items() if cid not in kept}


def _found_below(snapshot: Snapshot, links: Collection[Link], cids: frozenset[Cid]) -> set[Cid]:
    """Those of ``cids`` that are at or below ``links``. An attempt."""
    base_tree, found, waiting, seen = snapshot.volume.tree.base_tree, set[Cid](), list(links), set[Cid]()
    while waiting:
        link = waiting.pop()
        if link.cid in cids:
            found.add(link.cid)
        elif link.cid not in seen and base_tree.info(link).kind is Kind.DIRECTORY:
            waiting += base_tree.directory(link.cid).entries.values()
        seen.add(link.cid)
    return found


def why_not(rights: Permissions | None, place: UnitPath, unit: Unit) -> str:
    """Why the Hub will refuse a unit, as far as the known roles tell; empty when they do not."""
    path = b"/".join(place).decode(errors="replace")
    for touch in unit.touches:
        if rights is not None and not rights.may(path, touch):
            return _REASONS[touch]
    return ""


def wanted_of(
    units: Mapping[UnitPath, Unit],
    refused: Collection[UnitPath],
    only: Collection[UnitPath] | None,
    *,
    carried: bool = False,
) -> set[UnitPath]:
    """The units to push: those that were not refused, of ``only`` these when given, as far as that is safe. ``carried``: something
    of the base appears in what is left out of them."""
    wanted = {place for place in units if place not in refused and (only is None or place in only)}
    if carried or any(unit.carries for place, unit in units.items() if place not in wanted):
        wanted = {place for place in wanted if not units[place].takes}
    return wanted


def moved_among(snapshot: Snapshot, nodes: Collection[Node]) -> bool:
    """Whether something of the base was moved to where one of ``nodes`` is."""
    return any(
        then is not None and then in nodes and then.link is not None
        for frozen in snapshot.nodes
        if isinstance(frozen, FrozenDirectory)
        for then in frozen.overrides.values()
    )


def cut(snapshot: Snapshot, parts: Parts, wanted: Collection[UnitPath], damaged: Collection[Node] = ()) -> Cut:
    """The part of a snapshot that pushes these units and no others, and nothing of what is ``damaged``."""
    cutter = _Cutter(parts, wanted, damaged)
    # Children stand before their parents.
    for frozen in snapshot.nodes:
        if isinstance(frozen, FrozenDirectory) and frozen.node in parts.places:
            cutter.directory(frozen, parts.places[frozen.node])
    root = cutter.kept.get(snapshot.root.node)
    if not isinstance(root, FrozenDirectory):
        return Cut(None, [], cutter.settled)
    nodes = [cutter.kept[frozen.node] for frozen in snapshot.nodes if frozen.node in cutter.kept]
    return Cut(Snapshot(snapshot.volume, snapshot.base, root, snapshot.since_ns, nodes), cutter.still, cutter.settled)


def part_pushed(snapshot: Snapshot, part: Cut, links: Mapping[Node, Link], *, partly: bool) -> None:
    """A part of a snapshot is at the Hub. What waits because it was refused asks for no further push; what waits because only some
    of the rest was tried (``partly``) does."""
    if part.snapshot is snapshot:
        snapshot.mark_pushed(links)
        return
    volume = snapshot.volume
    # Before the release, which puts back the time of what the snapshot took.
    since_ns = volume.push.since_ns
    snapshot.release()
    if part.snapshot is not None:
        part.snapshot.mark_pushed(links)
    for frozen in part.settled:
        if frozen.node.version == frozen.version:
            frozen.node.changed = False
            frozen.node.mark_clean()
    for node in part.still:
        node.changed = True
        node.spread()
    volume.push.wait_since(snapshot.since_ns if partly and volume.root.dirty else since_ns)


class _Cutter:
    def __init__(self, parts: Parts, wanted: Collection[UnitPath], damaged: Collection[Node]) -> None:
        self.kept: dict[Node, Frozen] = {}
        self.still: list[Node] = []
        self.settled: list[FrozenDirectory] = []
        self._quiet: set[Frozen | Link | None] = set()
        self._parts = parts
        self._wanted = wanted
        self._damaged = damaged

    def directory(self, directory: FrozenDirectory, at: UnitPath) -> None:
        """Keep a folder that stays in its place, with what is wanted of its changes, unless that is nothing."""
        changes: dict[bytes, Frozen | Link | None] = {}
        for name, change in directory.changes.items():
            if name not in directory.overrides and isinstance(change, FrozenDirectory):
                if change.node in self.kept:
                    changes[name] = self.kept[change.node]
            elif (*at, name) in self._wanted and not self._is_damaged(change):
                changes[name] = change
                self._keep(change)
        unit = self._parts.units.get(at)
        own = unit is None or at in self._wanted
        if not changes and (unit is None or not own):
            if (unit is None or unit.minor) and self._quiet.issuperset(directory.changes.values()):
                self.settled.append(directory)
                self._quiet.add(directory)
            return
        if unit is not None and not own and not unit.minor:
            self.still.append(directory.node)
        self.kept[directory.node] = replace(
            directory,
            changes=changes,
            overrides={name: node for name, node in directory.overrides.items() if name in changes},
            attributes=directory.attributes if own else self._parts.plain[directory.node],
        )

    def _keep(self, change: Frozen | Link | None) -> None:
        """Keep something with all that is in it."""
        waiting = [change]
        while waiting:
            one = waiting.pop()
            if one is None or isinstance(one, Link):
                continue
            if isinstance(one, FrozenDirectory):
                one = self._sound(one)
                waiting += one.changes.values()
            self.kept[one.node] = one

    def _sound(self, directory: FrozenDirectory) -> FrozenDirectory:
        """A folder without the files in it that are damaged."""
        lacking = {name for name, change in directory.changes.items() if self._is_damaged(change)}
        if not lacking:
            return directory
        return replace(
            directory,
            changes={name: change for name, change in directory.changes.items() if name not in lacking},
            overrides={name: node for name, node in directory.overrides.items() if name not in lacking},
        )

    def _is_damaged(self, change: Frozen | Link | None) -> bool:
        return isinstance(change, FrozenFile) and change.node in self._damaged
