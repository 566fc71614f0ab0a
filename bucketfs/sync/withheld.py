"""Changes that are withheld while the rest is pushed, each with its reason: what the Hub refuses, what needs blocks that are
lost, what the disk here has damaged, and files that the Hub has no room for. A change is withheld for as long as it is as it
was when that was found.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.sync.partial_push import Cut, Unit, UnitPath, cut, moved_among, not_in_base, parts_of, wanted_of
from bucketfs.sync.tree_builder import FilesDamaged
from bucketfs.types import BucketKey
from bucketfs.vfs import FrozenFile, Node, Snapshot

log = logging.getLogger(__name__)

NODES_SHARE, NODES_BYTES = 1000, 4096
"""What the nodes of a file and of the folder it is in take at the Hub, roughly: so large a part of its bytes, and so many more."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Of a unit that was in this ``state``. ``minor``: it is not reported. ``lost``: it needs bytes that are lost."""

    reason: str
    state: int
    minor: bool = False
    lost: bool = False

    def holds(self, unit: Unit) -> bool:
        """Whether ``unit`` has to wait still. Other bytes change nothing of what a user may do, but what was written anew may need
        none that are lost."""
        return bool(unit.touches) and not (self.lost and self.state != unit.state)


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A file that is left out for as long as it has this version. ``taken_bytes`` is what it takes at the Hub."""

    version: int
    reason: str
    taken_bytes: int = 0


class Withheld:
    """What is withheld of the bucket ``key``."""

    def __init__(self, key: BucketKey) -> None:
        self._key = key
        self._refused: dict[UnitPath, _Refusal] = {}
        self._damaged: dict[Node, _LeftOut] = {}
        self._large: dict[Node, _LeftOut] = {}
        self._large_at_once = 1
        self._again = False

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self._refused or self._damaged or self._large)

    def __contains__(self, place: UnitPath) -> bool:
        return place in self._refused

    @property
    def refused(self) -> dict[str, str]:
        """The paths that wait because the Hub refuses them, with why."""
        return {_text(place): found.reason for place, found in self._refused.items() if not found.minor} | self.large

    @property
    def large(self) -> dict[str, str]:
        """The paths of files that wait because they would pass a limit of the Hub, with why."""
        return {node.path(): found.reason for node, found in _unchanged(self._large)}

    @property
    def room_wanted_bytes(self) -> int | None:
        """What the smallest of these files takes at the Hub; None when there is none."""
        return min((found.taken_bytes for _, found in _unchanged(self._large)), default=None)

    @property
    def damaged(self) -> dict[str, str]:
        """The paths of files that wait because what they hold here is damaged, with why."""
        return {node.path(): found.reason for node, found in _unchanged(self._damaged)}

    @property
    def files_count(self) -> int:
        """How many files are left out by themselves, also of new folders."""
        return len(self._damaged) + len(self._large)

    def clear(self) -> None:
        """Nothing is dirty any more."""
        self._refused, self._damaged, self._large = {}, {}, {}

    def retry(self) -> None:
        """All of it is to be tried again. Damage is reported until the retry has run: the user that asked for the attempt which
        found it may not have looked yet."""
        self._refused, self._large, self._again = {}, {}, True

    def refuse(self, place: UnitPath, reason: str, unit: Unit, *, lost: bool = False) -> None:
        """The Hub refuses ``unit``, which is at ``place``. ``lost``: it needs bytes that are lost."""
        self._refused[place] = _Refusal(reason, unit.state, unit.minor, lost)
        if not unit.minor:
            log.warning("%s: %r cannot go to the Hub and waits here: %s", self._key, _text(place), reason)

    def refuse_all(self, units: Mapping[UnitPath, Unit], error: BucketfsError) -> None:
        """The Hub refuses one of ``units`` or more with ``error``, which is Corrupt when bytes are lost that it needs."""
        why = (
            f"it needs bytes that are lost: {error}; remove it or write it anew"
            if isinstance(error, Corrupt)
            else str(error)
        )
        alone = len(units) == 1
        if not alone:
            why = f"it was not tried by itself; of {len(units)} changes together one could not go: {error}"
        for place, unit in units.items():
            self.refuse(place, why, unit, lost=alone and isinstance(error, Corrupt))

    def damage(self, error: FilesDamaged) -> None:
        """Files turned out to be damaged on the disk here."""
        for frozen, reason in error.files.items():
            if frozen.node not in self._damaged:
                log.warning("%s: %s", self._key, reason)
            self._damaged[frozen.node] = _LeftOut(frozen.version, str(reason))

    def fit(self, snapshot: Snapshot, free_bytes: int | None) -> bool:
        """Leave out the largest files of a snapshot, until the rest takes no more than the Hub has free; whether there are
        any. What is sent and cannot be linked would fill the room of what can."""
        if free_bytes is None or snapshot.volume.push.grown_bytes <= free_bytes:
            return False
        wanted = snapshot.volume.push.grown_bytes - sum(
            _grown(file) for file in _files(snapshot) if file.node in self._large
        )
        found = False
        for file in self._largest(snapshot):
            if wanted <= free_bytes or _grown(file) <= 0:
                break
            wanted -= _grown(file)
            self._leave_out(file, f"it takes {_taken(file)} bytes more, and the Hub has {free_bytes} left")
            found = True
        return found

    def leave_out_largest(self, snapshot: Snapshot, error: BucketfsError) -> bool:
        """The Hub says that a snapshot passes a limit: leave out its largest file, more each time this is said again. Whether there
        was one."""
        files = self._largest(snapshot)[: self._large_at_once]
        for file in files:
            self._leave_out(file, str(error))
        self._large_at_once *= 2
        return bool(files)

    def took(self) -> None:
        """The Hub took a push."""
        self._large_at_once = 1

    def _largest(self, snapshot: Snapshot) -> list[FrozenFile]:
        """The files of a snapshot that bring bytes and are not left out yet, the largest first."""
        large = _still(self._large, snapshot)
        files = [file for file in _files(snapshot) if file.layers and file.node not in large]
        return sorted(files, key=lambda file: (_grown(file), file.size_bytes), reverse=True)

    def _leave_out(self, file: FrozenFile, reason: str) -> None:
        log.warning("%s: %r would pass a limit of the Hub and waits here: %s", self._key, file.node.path(), reason)
        self._large[file.node] = _LeftOut(file.version, reason, _taken(file))

    async def cut(self, snapshot: Snapshot, only: Collection[UnitPath] | None) -> Cut:
        """What of a snapshot to push, of all or of ``only`` some places; all of it, without a further look, as long as nothing
        waits. What was undone since, or written anew, waits no more. Awaits only for directories of the base not at hand."""
        if self._again:
            self._damaged, self._again = {}, False
        self._damaged, self._large = _still(self._damaged, snapshot), _still(self._large, snapshot)
        left_out = self._damaged.keys() | self._large.keys()
        if only is None and not self._refused and not left_out:
            return Cut(snapshot)
        parts = await parts_of(snapshot)
        # What was undone here since is nothing that could be refused.
        self._refused = {
            place: replace(found, minor=unit.minor)
            for place, unit in parts.units.items()
            if (found := self._refused.get(place)) is not None and found.holds(unit)
        }
        # Of a file that is lost and that the base has no more there is nothing to keep: it holds up no removal.
        lost = [place for place, found in self._refused.items() if found.lost]
        gone = await not_in_base(snapshot, parts, lost)
        units = {place: replace(unit, carries=False) if place in gone else unit for place, unit in parts.units.items()}
        wanted = wanted_of(units, self._refused, only, carried=moved_among(snapshot, left_out))
        return cut(snapshot, parts, wanted, left_out)


def _still(left_out: Mapping[Node, _LeftOut], snapshot: Snapshot) -> dict[Node, _LeftOut]:
    """What is left out of a snapshot: not the files that were written anew."""
    if not left_out:
        return {}
    versions: dict[Node, int] = {frozen.node: frozen.version for frozen in snapshot.nodes}
    return {node: found for node, found in left_out.items() if versions.get(node) == found.version}


def _unchanged(left_out: Mapping[Node, _LeftOut]) -> Iterator[tuple[Node, _LeftOut]]:
    """The files that are left out and are as they were then."""
    for node, found in left_out.items():
        if node.version == found.version and node.dirty and not node.orphan:
            yield node, found


def _files(snapshot: Snapshot) -> Iterator[FrozenFile]:
    return (frozen for frozen in snapshot.nodes if isinstance(frozen, FrozenFile))


def _grown(file: FrozenFile) -> int:
    return file.size_bytes - file.base_size_bytes


def _taken(file: FrozenFile) -> int:
    """What a file takes at the Hub that it did not take before, roughly."""
    grown = max(0, _grown(file))
    return grown + grown // NODES_SHARE + NODES_BYTES


def _text(place: UnitPath) -> str:
    return b"/".join(place).decode(errors="replace")
