"""What of a volume waits by itself while the rest is pushed: what the Hub refuses, what stands on blocks that nobody has any more,
and what the disk here has damaged. Each with its reason, for as long as it is as it was when that was found.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.sync.bereft import let_go
from bucketfs.sync.build import FilesDamaged
from bucketfs.sync.refused import Cut, Place, Unit, cut, moved_among, parts_of, wanted_of
from bucketfs.types import BucketKey
from bucketfs.vfs import Node, Picture

log = logging.getLogger(__name__)


class Aside:
    """What waits by itself of the bucket ``key``."""

    def __init__(self, key: BucketKey) -> None:
        self._key = key
        self._refused: dict[Place, str] = {}
        self._minor: set[Place] = set()
        self._lost: set[Place] = set()
        self._damaged: dict[Node, tuple[int, str]] = {}  # what was found in which version
        self._again = False

    def __bool__(self) -> bool:
        """Whether anything does."""
        return bool(self._refused or self._damaged)

    def __contains__(self, place: Place) -> bool:
        return place in self._refused

    @property
    def refused(self) -> dict[str, str]:
        """The paths that wait because the Hub refuses them, with why."""
        return {_text(place): reason for place, reason in self._refused.items() if place not in self._minor}

    @property
    def damaged(self) -> dict[str, str]:
        """The paths of files that wait because what they hold here is damaged, with why."""
        return {
            node.path(): reason
            for node, (version, reason) in self._damaged.items()
            if node.version == version and node.dirty and not node.orphan
        }

    @property
    def damaged_count(self) -> int:
        """How many files were found damaged and not let go of since."""
        return len(self._damaged)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._refused, self._damaged = {}, {}

    def forgive(self) -> None:
        """All of it is to be tried again. What was found damaged is told until then: whoever asked for the attempt that found it
        may not have looked yet."""
        self._refused, self._again = {}, True

    def refuse(self, place: Place, reason: str, *, minor: bool = False) -> None:
        """The Hub refuses what is at ``place``. ``minor``: nobody need be told."""
        self._refused[place] = reason
        if minor:
            self._minor.add(place)
        else:
            log.warning("%s: %r cannot go to the Hub and waits here: %s", self._key, _text(place), reason)

    def refuse_all(self, places: Iterable[Place], error: BucketfsError) -> None:
        """The Hub refuses ``places`` with ``error``, which is Corrupt when they need bytes that are lost."""
        lost = isinstance(error, Corrupt)
        why = f"it needs bytes that are lost: {error}; remove it or write it anew" if lost else str(error)
        for place in places:
            self.refuse(place, why)
            if lost:
                self._lost.add(place)

    def damage(self, error: FilesDamaged) -> None:
        """Files turned out to be damaged on the disk here."""
        for frozen, reason in error.files.items():
            if frozen.node not in self._damaged:
                log.warning("%s: %s", self._key, reason)
            self._damaged[frozen.node] = frozen.version, str(reason)

    async def cut(self, picture: Picture, only: Collection[Place] | None) -> Cut:
        """What of a picture to push, of all or of ``only`` some places; all of it, without a further look, as long as nothing
        waits. What was undone since, or written anew, waits no more. Awaits only for directories of the base not at hand."""
        if self._again:
            self._damaged, self._again = {}, False
        damaged = self._still_damaged(picture)
        if only is None and not self._refused and not damaged:
            return Cut(picture)
        parts = await parts_of(picture)
        # What was undone here since is nothing that could be refused.
        still: dict[Place, Unit] = {
            place: unit for place, unit in parts.units.items() if place in self._refused and unit.touches
        }
        self._refused = {place: self._refused[place] for place in still}
        self._minor = {place for place, unit in still.items() if unit.minor}
        self._lost &= still.keys()
        units, held = await let_go(picture, parts, self._lost)
        wanted = wanted_of(units, still.keys() | held, only, carried=moved_among(picture, damaged))
        return cut(picture, parts, wanted, damaged)

    def _still_damaged(self, picture: Picture) -> set[Node]:
        """The damaged files of a picture: not those that were written anew."""
        if not self._damaged:
            return set()
        versions: dict[Node, int] = {frozen.node: frozen.version for frozen in picture.nodes}
        self._damaged = {node: found for node, found in self._damaged.items() if versions.get(node) == found[0]}
        return set(self._damaged)


def _text(place: Place) -> str:
    return b"/".join(place).decode(errors="replace")
