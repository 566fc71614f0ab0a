"""Finding out which of many changes the Hub refuses, when it says so of a push as a whole.

The roles that the Hub tells say it mostly. Where they do not, halves of the changes are pushed until it is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from bucketfs.errors import BucketfsError
from bucketfs.sync.partial_push import Unit, UnitPath, parts_of, why_not
from bucketfs.sync.withheld import Withheld
from bucketfs.vfs import Volume, freeze

ATTEMPTS_MAX = 200
"""How many pushes one search may take. After that all that is still in doubt is taken for refused."""


class SwapRefused(Exception):
    """Some path of what was to be pushed cannot go: the Hub refuses it, or blocks that it needs are lost."""

    def __init__(self, error: BucketfsError) -> None:
        super().__init__(str(error))
        self.error = error


class RefusalSearch:
    """One search. ``push`` pushes the changes at some paths, and raises SwapRefused when one of them is to blame."""

    def __init__(self, volume: Volume, withheld: Withheld, push: Callable[[Collection[UnitPath]], Awaitable[None]]) -> None:
        self._volume = volume
        self._withheld = withheld
        self._push = push
        self._attempts_left = ATTEMPTS_MAX
        self._units: Mapping[UnitPath, Unit] = {}

    async def run(self, error: BucketfsError) -> None:
        """The Hub said ``error`` of a push: withhold what is to blame of all that is dirty now. What is not goes out on the way."""
        snapshot = freeze(self._volume)
        if snapshot is None:
            return
        try:
            parts = await parts_of(snapshot)
        finally:
            # Before the pushes, each of which takes a snapshot of its own.
            snapshot.release()
        self._units = parts.units
        reasons = {path: why_not(self._volume.tree.permissions, path, unit) for path, unit in parts.units.items()}
        blamed = {path: reason for path, reason in reasons.items() if reason and path not in self._withheld}
        for path, reason in blamed.items():
            self._withheld.refuse(path, reason, parts.units[path])
        if not blamed:
            await self._halve([path for path in parts.units if path not in self._withheld], error)

    async def _halve(self, paths: Sequence[UnitPath], error: BucketfsError) -> None:
        """One or more of ``paths`` are refused with ``error``."""
        if len(paths) == 1 or self._attempts_left <= 0:
            self._withheld.refuse_all({path: self._units[path] for path in paths}, error)
            return
        middle = len(paths) // 2
        for half in (paths[:middle], paths[middle:]):
            self._attempts_left -= 1
            try:
                await self._push(set(half))
            except SwapRefused as refused:
                await self._halve(half, refused.error)
