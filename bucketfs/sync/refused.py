"""Taking a picture apart, so that what the Hub refuses stays here and the rest is pushed.

A *unit* is what is pushed or set aside by itself: a name that was made, replaced or taken away (a new folder with all that is in
it), a file changed in its place, or the attributes of a folder that stays where it is. A unit that is set aside stays dirty and
in the journal, like anything that waits.

Two rules keep a part of a picture safe to push. What was moved exists at the Hub only under its old name: while its new place
is set aside, nothing that the base has is taken away or replaced as a whole. And a folder whose entries change gets a new mtime
by that; where the user may not write the folder itself, the mtime does not travel, and that is no loss to report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from bucketfs.types import Kind, Link, NodeAttributes
from bucketfs.vfs import (
    FrozenDirectory,
    FrozenFile,
    FrozenSymlink,
    Node,
    Picture,
    Rights,
    Touch,
)

Place = tuple[bytes, ...]
Frozen = FrozenFile | FrozenSymlink | FrozenDirectory

DIRECTORY_MODE = 0o755

_REASONS = {
    Touch.ADD: "only the owner of the bucket adds names",
    Touch.REPLACE: "changing it takes the role of a writer",
    Touch.REMOVE: "removing it takes the role of an admin",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """``touches`` is what pushing it does at the Hub. ``carries``: something of the base appears there. ``takes``: what the base
    has there goes. ``minor``: nothing but a folder's mtime."""

    touches: tuple[Touch, ...]
    carries: bool = False
    takes: bool = False
    minor: bool = False


@dataclass(slots=True)
class Parts:
    """The units of a picture, and the attributes that its folders have in the base."""

    units: dict[Place, Unit] = field(default_factory=dict)
    plain: dict[Node, NodeAttributes] = field(default_factory=dict)


@dataclass(slots=True)
class Cut:
    """A part of a picture, None when it has none of the wanted units. ``still``: folders of it whose own attributes wait here.
    ``settled``: folders outside of it, of which nothing but an mtime would not travel."""

    picture: Picture | None
    still: list[Node] = field(default_factory=list)
    settled: list[FrozenDirectory] = field(default_factory=list)


async def parts_of(picture: Picture) -> Parts:
    """Take a picture apart. Awaits only for directories of the base that are not at hand."""
    lens = picture.volume.lens

    def attempt() -> Parts:
        parts = Parts()
        _walk(picture, picture.root, (), parts)
        return parts

    return await lens.settle(attempt)


def _walk(picture: Picture, directory: FrozenDirectory, at: Place, parts: Parts) -> None:
    """An attempt: collect the units of a folder that stays in its place."""
    lens = picture.volume.lens
    if directory.base is not None:
        plain = lens.info(directory.base).attributes
        parts.plain[directory.node] = plain
        if _spelt(directory.attributes) != _spelt(plain):
            minor = _spelt(replace(directory.attributes, mtime_ns=plain.mtime_ns)) == _spelt(plain)
            parts.units[at] = Unit((Touch.REPLACE,), minor=minor)
    for name, change in directory.changes.items():
        place = (*at, name)
        if name not in directory.overrides:
            if isinstance(change, FrozenDirectory):
                _walk(picture, change, place, parts)
            else:
                parts.units[place] = Unit((Touch.REPLACE,))
            continue
        known = lens.directory(directory.base.cid).entries.get(name) if directory.base is not None else None
        parts.units[place] = _override(picture, change, known)


def _spelt(attributes: NodeAttributes) -> NodeAttributes:
    """With the mode that a folder has which carries none (the format leaves it out)."""
    return replace(attributes, mode=DIRECTORY_MODE) if attributes.mode is None else attributes


def _override(picture: Picture, change: Frozen | Link | None, known: Link | None) -> Unit:
    if change is None:
        return Unit((Touch.REMOVE,) if known is not None else (), takes=True)
    carries = isinstance(change, Link) or (not isinstance(change, FrozenSymlink) and change.base is not None)
    if known is None:
        return Unit((Touch.ADD,), carries=carries)
    # A folder that something else replaces loses what is in it.
    emptied = picture.volume.lens.info(known).kind is Kind.DIRECTORY
    return Unit((Touch.REPLACE, Touch.REMOVE) if emptied else (Touch.REPLACE,), carries=carries, takes=True)


def why_not(rights: Rights | None, place: Place, unit: Unit) -> str:
    """Why the Hub will refuse a unit, as far as the known roles tell; empty when they do not."""
    path = b"/".join(place).decode(errors="replace")
    for touch in unit.touches:
        if rights is not None and not rights.may(path, touch):
            return _REASONS[touch]
    return ""


def wanted_of(units: Mapping[Place, Unit], refused: Collection[Place], only: Collection[Place] | None) -> set[Place]:
    """The units to push: those that were not refused, of ``only`` these when given, as far as that is safe."""
    wanted = {place for place in units if place not in refused and (only is None or place in only)}
    if any(unit.carries for place, unit in units.items() if place not in wanted):
        wanted = {place for place in wanted if not units[place].takes}
    return wanted


def cut(picture: Picture, parts: Parts, wanted: Collection[Place]) -> Cut:
    """The part of a picture that pushes these units and no others."""
    cutter = _Cutter(parts, wanted)
    root = cutter.directory(picture.root, ())
    if root is None:
        return Cut(None, [], cutter.settled)
    nodes = [cutter.kept[frozen.node] for frozen in picture.nodes if frozen.node in cutter.kept]
    return Cut(Picture(picture.volume, picture.base, root, picture.since_ns, nodes), cutter.still, cutter.settled)


class _Cutter:
    def __init__(self, parts: Parts, wanted: Collection[Place]) -> None:
        self.kept: dict[Node, Frozen] = {}
        self.still: list[Node] = []
        self.settled: list[FrozenDirectory] = []
        self._parts = parts
        self._wanted = wanted

    def directory(self, directory: FrozenDirectory, at: Place) -> FrozenDirectory | None:
        """A folder that stays in its place, with what is wanted of its changes; None when that is nothing."""
        changes: dict[bytes, Frozen | Link | None] = {}
        for name, change in directory.changes.items():
            place = (*at, name)
            if name not in directory.overrides and isinstance(change, FrozenDirectory):
                inner = self.directory(change, place)
                if inner is not None:
                    changes[name] = inner
            elif place in self._wanted:
                changes[name] = change
                self._keep(change)
        unit = self._parts.units.get(at)
        own = unit is None or at in self._wanted
        if not changes and (unit is None or not own):
            if (unit is None or unit.minor) and all(change in self.settled for change in directory.changes.values()):
                self.settled.append(directory)
            return None
        overrides = {name: node for name, node in directory.overrides.items() if name in changes}
        attributes = directory.attributes if own else self._parts.plain[directory.node]
        if unit is not None and not own and not unit.minor:
            self.still.append(directory.node)
        made = replace(directory, changes=changes, overrides=overrides, attributes=attributes)
        self.kept[directory.node] = made
        return made

    def _keep(self, change: Frozen | Link | None) -> None:
        if change is None or isinstance(change, Link):
            return
        self.kept[change.node] = change
        if isinstance(change, FrozenDirectory):
            for inner in change.changes.values():
                self._keep(inner)
