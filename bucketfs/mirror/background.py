"""Long works in the background of a mirror's rounds: files so large that small changes of either side must not wait for them.

A round does works of `INLINE_BYTES` itself, so that a few photos go with what is small; it says which others are wanted, and
takes the results of those that are done. A work that a later round does not want is cancelled: its file was removed, or is
another by now. The smallest ones run first, a few at a time. One that fails because the Hub is away goes on when that is back;
the next round reports any other error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from bucketfs.client import Backoff
from bucketfs.errors import BucketfsError, TimedOut, Unauthenticated, Unavailable

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

INLINE_BYTES = 16 << 20
AT_ONCE_MAX = 3
DONE_MAX = 64
"""Results that wait for a round; each may be an open file."""
GATHER_S = 2.0
AWAY = (Unavailable, TimedOut, Unauthenticated)


@dataclass(frozen=True, slots=True)
class Work(Generic[R]):
    """``act`` may be called again after an error of `AWAY`, and goes on then. ``drop`` undoes what it did, whether it is done or
    still runs; it is called at most once, and not after the result was taken."""

    size_bytes: int
    act: Callable[[], Awaitable[R]]
    drop: Callable[[], None]


class Background(Generic[K, R]):
    """The works, by what they are wanted for. While `run` does not run, rounds do all works themselves."""

    def __init__(self) -> None:
        self.running = False
        self._wanted: dict[K, Work[R]] = {}
        self._current: dict[K, trio.CancelScope] = {}
        self._done: dict[K, R] = {}
        self._failed: dict[K, BucketfsError] = {}
        self._wanted_by_round: dict[K, Work[R]] = {}
        self._left_bytes = 0
        self._changed = trio.Event()
        self._finished: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether anything is wanted that no round has taken."""
        return bool(self._wanted)

    def __contains__(self, key: K) -> bool:
        return key in self._wanted

    # A round

    def begin_round(self) -> None:
        """Nothing is wanted by this round yet."""
        self._wanted_by_round = {}
        self._left_bytes = INLINE_BYTES

    def takes(self, key: K, size_bytes: int) -> bool:
        """Whether a work is for the background; else the round does it."""
        if self.running and (key in self._wanted or size_bytes > self._left_bytes):
            return True
        self._left_bytes -= size_bytes
        return False

    def result(self, key: K, make: Callable[[], Work[R]]) -> R | None:
        """The result of a work that is done, once; else it is wanted. Raises the error of one that failed, once."""
        if key in self._failed:
            self._wanted.pop(key).drop()
            raise self._failed.pop(key)
        if key in self._done:
            del self._wanted[key]
            return self._done.pop(key)
        if key not in self._wanted_by_round:
            self._wanted_by_round[key] = self._wanted.get(key) or make()
        return None

    def end_round(self) -> int:
        """The round has seen all there is: what it did not want is cancelled. How many works are wanted."""
        self._want(self._wanted_by_round)
        return len(self._wanted_by_round)

    def _want(self, works: Mapping[K, Work[R]]) -> None:
        for key in [key for key in self._wanted if key not in works]:
            if key in self._current:
                self._current[key].cancel()
            self._done.pop(key, None)
            self._failed.pop(key, None)
            self._wanted.pop(key).drop()
        self._wanted = dict(works)
        self._changed.set()

    # The works

    async def run(self, finished: Callable[[], None]) -> None:
        """Does what is wanted, until cancelled; ``finished`` is told of each end. What was not taken is dropped then."""
        self._finished = finished
        self.running = True
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    self._changed = trio.Event()
                    for key in self._next():
                        self._current[key] = trio.CancelScope()
                        nursery.start_soon(self._carry, key, self._wanted[key], self._current[key])
                    await self._changed.wait()
        finally:
            self.running = False
            self._want({})

    async def gather(self) -> None:
        """Returns when some results can be taken, or nothing is wanted."""
        while self.busy and not self._done and not self._failed:
            await self._changed.wait()
        with trio.move_on_after(GATHER_S):
            while self._current:
                await self._changed.wait()

    def _next(self) -> list[K]:
        free = min(AT_ONCE_MAX - len(self._current), DONE_MAX - len(self._done))
        waiting = [key for key in self._wanted if not (key in self._current or key in self._done or key in self._failed)]
        return sorted(waiting, key=lambda key: self._wanted[key].size_bytes)[: max(0, free)]

    async def _carry(self, key: K, work: Work[R], scope: trio.CancelScope) -> None:
        backoff = Backoff()
        try:
            with scope:
                while True:
                    try:
                        result = await work.act()
                    except AWAY:
                        await trio.sleep(backoff.next_s())
                        continue
                    # It may have been dropped while its last call ended.
                    if self._wanted.get(key) is work:
                        self._done[key] = result
                    return
        except BucketfsError as error:
            if self._wanted.get(key) is work:
                self._failed[key] = error
        finally:
            del self._current[key]
            self._changed.set()
            self._finished()
