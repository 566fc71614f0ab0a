"""What a file that is set aside because its bytes are lost holds back. Pure.

While something that was moved cannot go to its new place, nothing is taken away at the Hub, since it is there under its old name
only (see `refused`). Of bytes that nobody has the Hub has nothing under any name. So there only such removals wait that may mean
the very thing, in case that the Hub was damaged and is mended one day: of the same file, or of a folder that may hold it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from bucketfs.dag import NodeInfo
from bucketfs.sync.partial_push import Frozen, Parts, Place, Unit
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs import FrozenDirectory, FrozenFile, Picture


async def let_go(picture: Picture, parts: Parts, lost: Collection[Place]) -> tuple[Mapping[Place, Unit], set[Place]]:
    """The units of a picture with those that are ``lost`` carrying nothing; and those that are held back by them all the same.
    Awaits only for directories of the base that are not at hand."""
    if not lost:
        return parts.units, set()
    return await picture.volume.base_tree.load(lambda: _let_go(picture, parts, lost))


def _let_go(picture: Picture, parts: Parts, lost: Collection[Place]) -> tuple[Mapping[Place, Unit], set[Place]]:
    """An attempt."""
    units = dict(parts.units)
    carried: set[Cid] = set()
    for _, place, change in _changes(picture, parts):
        unit = units.get(place)
        if place in lost and unit is not None and unit.carries and isinstance(change, Link | FrozenFile):
            base = change if isinstance(change, Link) else change.base
            assert base is not None, "it carries something of the base"
            carried.add(base.cid)
            units[place] = replace(unit, carries=False)
    held: set[Place] = set()
    for directory, place, _ in _changes(picture, parts):
        unit = units.get(place)
        if carried and unit is not None and unit.takes and directory.base is not None:
            base_tree = picture.volume.base_tree
            taken = base_tree.directory(directory.base.cid).entries.get(place[-1])
            if taken is not None and (taken.cid in carried or _may_hold(base_tree.shown(taken))):
                held.add(place)
    return units, held


def _may_hold(info: NodeInfo | None) -> bool:
    return info is None or info.kind is Kind.DIRECTORY


def _changes(picture: Picture, parts: Parts) -> Iterator[tuple[FrozenDirectory, Place, Frozen | Link | None]]:
    for frozen in picture.nodes:
        if isinstance(frozen, FrozenDirectory) and frozen.node in parts.places:
            at = parts.places[frozen.node]
            for name, change in frozen.changes.items():
                yield frozen, (*at, name), change
