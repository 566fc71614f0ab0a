"""Keeping the list of conflicts true while the base changes: what another client did to a copy.

What is done here the list follows by itself (`vfs.conflicts`). After a change of the base each copy is looked for: one that is
gone, or has another name now, is resolved by that; a folder above it that was renamed takes it along, as far as equal
CIDs tell that it was. Nothing of this is needed for the copies themselves: losing an item of the list loses no byte.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from bucketfs.cache import run_steps
from bucketfs.dag import diff
from bucketfs.errors import BucketfsError
from bucketfs.journal import Conflict, Resolved
from bucketfs.sync.change_feed import ChangeKind, events_of
from bucketfs.types import Cid
from bucketfs.vfs import Volume, exists_at

log = logging.getLogger(__name__)


class ConflictTracker:
    """Looks for the copies of one volume. Belongs to the task that alone changes the base."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._looked_at: Cid | None = None

    async def look(self) -> None:
        """Look for the copies if the base changed since the last look. Raises nothing: what cannot be seen now is on the list
        until it can."""
        volume = self._volume
        old, base = self._looked_at, volume.base
        if old == base:
            return
        try:
            lost = [
                item for item in volume.pending.conflicts if not await volume.load(partial(exists_at, volume, item.copy))
            ]
            if lost:
                await self._follow(lost, await self._renamed(old))
        except BucketfsError as error:
            log.debug("%s: the conflicts are looked at later: %s", volume.key, error)
        else:
            self._looked_at = base

    async def _renamed(self, old: Cid | None) -> dict[str, str]:
        """What another client gave a new name since the base was ``old``. Nothing at a start: it is not known then."""
        if old is None:
            return {}
        changes = await run_steps(diff(old, self._volume.base), self._volume.tree.base_tree.source)
        return {event.was: event.path for event in events_of(changes) if event.kind is ChangeKind.RENAMED}

    async def _follow(self, lost: list[Conflict], renamed: dict[str, str]) -> None:
        volume = self._volume
        for item in lost:
            moved = _moved(item, renamed)
            stays = moved is not None and await volume.load(partial(exists_at, volume, moved.copy))
            if volume.pending.conflicts.get(item.copy) is not item:
                continue  # it was resolved, or something was renamed, meanwhile
            if stays and moved is not None:
                # The new item before the end of the old one: a kill in between leaves an item too many, which the next look
                # takes off.
                volume.append(moved)
                volume.pending.conflicts.add(moved)
            else:
                log.info("%s: the copy %r of %r is gone", volume.key, item.copy, item.original)
            volume.append(Resolved(item.copy, volume.now_ns()))
            volume.pending.conflicts.resolve(item.copy)


def _moved(item: Conflict, renamed: dict[str, str]) -> Conflict | None:
    """The item where it is when the nearest folder above that was renamed took it along; None when none was."""
    above = item.copy.rpartition("/")[0]
    while above:
        if above in renamed:
            new, cut = renamed[above], len(above)
            return replace(item, copy=new + item.copy[cut:], original=new + item.original[cut:])
        above = above.rpartition("/")[0]
    return None
