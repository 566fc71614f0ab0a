"""When a failed attempt is repeated: after a growing delay, or at once when what was in the way may be gone."""

from __future__ import annotations

import time

import trio

from bucketfs.client import Backoff

RETRY_LIMIT_S = 60.0


class RetrySchedule:
    """The attempts of one task. ``next_try_s`` is when the next one is due (seconds since 1970)."""

    def __init__(self) -> None:
        self.next_try_s: float | None = None
        self._backoff = Backoff(limit_s=RETRY_LIMIT_S)
        self._now = trio.Event()

    def retry_now(self) -> None:
        """What was in the way may be gone: end the delay."""
        self._backoff.reset()
        self._now.set()

    async def wait(self) -> None:
        """Wait until the next attempt is due."""
        self._now = trio.Event()
        delay_s = self._backoff.next_s()
        self.next_try_s = time.time() + delay_s
        with trio.move_on_after(delay_s):
            await self._now.wait()
