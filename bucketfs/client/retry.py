"""Retries: when, and how often.

The delays are "full jitter": a uniformly random part of a bound that starts at half a second and doubles to five minutes,
so that a thousand mounts do not return to a restarted Hub in one beat.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from bucketfs.errors import BucketfsError, TimedOut, Unavailable

T = TypeVar("T")

FIRST_S = 0.5
LIMIT_S = 300.0


class Backoff:
    """The delays between attempts, in seconds. It only says how long to wait."""

    def __init__(
        self,
        first_s: float = FIRST_S,
        limit_s: float = LIMIT_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._uniform = uniform
        self._bound_s = first_s

    def next_s(self) -> float:
        """How long to wait before the next attempt; the bound doubles for the one after."""
        bound_s, self._bound_s = self._bound_s, min(self._bound_s * 2, self._limit_s)
        return self._uniform(0.0, bound_s)

    def reset(self) -> None:
        """Begin with the shortest bound again."""
        self._bound_s = self._first_s


class Retry:
    """Runs an act again while it fails with one of ``errors`` (by default those that pass: ``Unavailable``, ``TimedOut``).

    One Retry serves one act at a time.
    """

    def __init__(
        self,
        backoff: Backoff | None = None,
        *,
        errors: tuple[type[BucketfsError], ...] = (Unavailable, TimedOut),
        failed: Callable[[BucketfsError, float], None] | None = None,
    ) -> None:
        """``failed(error, delay_s)`` is called after each failed attempt, before the wait that follows it."""
        self._backoff = backoff or Backoff()
        self._errors = errors
        self._failed = failed
        self._wake = trio.Event()

    def reset(self) -> None:
        """Ends the present wait, if there is one, and begins with the shortest delay again: the user asked, or the Hub answered."""
        self._backoff.reset()
        self._wake.set()
        self._wake = trio.Event()

    async def __call__(self, act: Callable[[], Awaitable[T]], *, give_up_after_s: float = float("inf")) -> T:
        """What ``act()`` returns at last. Other errors are raised at once, and the last one of ``errors`` when ``give_up_after_s``
        seconds have passed; an attempt that runs then is not cut short (its own deadline does that)."""
        give_up = trio.current_time() + give_up_after_s
        while True:
            try:
                result = await act()
            except self._errors as error:
                delay_s = self._backoff.next_s()
                if trio.current_time() + delay_s > give_up:
                    raise
                if self._failed is not None:
                    self._failed(error, delay_s)
                with trio.move_on_after(delay_s):
                    await self._wake.wait()
            else:
                self._backoff.reset()
                return result
