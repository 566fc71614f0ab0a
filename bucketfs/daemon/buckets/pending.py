"""A bucket of the listing that cannot be opened yet, and when that is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from bucketfs.client import Backoff, BucketInfo
from bucketfs.errors import BucketfsError, Unavailable

OPEN_AGAIN_LIMIT_S = 60.0


@dataclass(slots=True, eq=False)
class Waiting:
    """A bucket that cannot be shown yet: the name its folder will have, or has, why the newest attempt to open it failed, and
    when the next one is due (seconds since 1970). ``changes`` counts the records of changes that wait for it in its journal."""

    name: bytes
    info: BucketInfo
    error: BucketfsError = field(default_factory=lambda: Unavailable("it is being opened"))
    next_try_s: float | None = None
    changes: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(limit_s=OPEN_AGAIN_LIMIT_S))
    tried: trio.Event = field(default_factory=trio.Event)
    again: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    def hurry(self) -> None:
        """What stood in the way may be gone: try again now."""
        self.backoff.reset()
        self.again.set()
