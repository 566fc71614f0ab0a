"""Fsyncs that overlapping callers share: a call that comes while a round runs waits for the next one, with all others that do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class SyncRounds:
    """Rounds of ``work``, one at a time."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._begun = 0
        self._done = 0
        self._running: trio.Event | None = None

    @property
    def running(self) -> bool:
        """Whether a round runs."""
        return self._running is not None

    async def sync(self) -> None:
        """Return when a round that began after the call is over. Raises what its work raises."""
        # Only a round that begins after this call can have seen all that the caller appended.
        ticket = self._begun + 1
        await trio.lowlevel.checkpoint()
        while self._done < ticket:
            if self._running is None:
                await self._run()
            else:
                await self._running.wait()

    async def idle(self) -> None:
        """Return when no round runs."""
        while self._running is not None:
            await self._running.wait()

    async def _run(self) -> None:
        """One round. Should it be cancelled or fail, the next caller begins another."""
        self._begun += 1
        number = self._begun
        running = self._running = trio.Event()
        try:
            await self._work()
            self._done = number
        finally:
            self._running = None
            running.set()
