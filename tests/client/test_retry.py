"""Retries, on a mock clock."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bucketfs.client import Backoff, Retry
from bucketfs.errors import BucketfsError, NotFound, TimedOut, Unavailable


def longest(_low: float, high: float) -> float:
    return high


def test_delays_double_up_to_a_limit_and_begin_again() -> None:
    """A Hub that is away is asked less and less, and after an answer soon again."""
    backoff = Backoff(0.5, 300.0, longest)
    delays = [backoff.next_s() for _ in range(12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-2:] == [300.0, 300.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_delays_are_fully_jittered() -> None:
    """A thousand mounts do not return to a restarted Hub in one beat."""
    delays = [Backoff(8.0, 8.0).next_s() for _ in range(200)]
    assert min(delays) < 1.0
    assert max(delays) > 7.0
    assert all(0 <= delay <= 8 for delay in delays)


class Act:
    """Fails with each of ``errors`` in turn, then returns how often it was called."""

    def __init__(self, *errors: BucketfsError) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        await trio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


async def test_an_outage_is_waited_out(autojump_clock: MockClock) -> None:
    """An outage delays work and does not fail it."""
    heard: list[tuple[str, float]] = []
    retry = Retry(Backoff(uniform=longest), failed=lambda error, delay_s: heard.append((str(error), delay_s)))
    begun = trio.current_time()
    assert await retry(Act(Unavailable("a"), TimedOut("b"), Unavailable("c"))) == 4
    assert heard == [("a", 0.5), ("b", 1.0), ("c", 2.0)]
    assert trio.current_time() - begun == pytest.approx(3.5)
    assert await retry(Act(Unavailable("again"))) == 2
    assert heard[-1] == ("again", 0.5)


async def test_other_errors_are_raised_at_once(autojump_clock: MockClock) -> None:
    """An error that will not pass is not waited for."""
    act = Act(NotFound("no"))
    with pytest.raises(NotFound):
        await Retry()(act)
    assert act.calls == 1


async def test_giving_up(autojump_clock: MockClock) -> None:
    """A caller with a limit gets the error within it."""
    begun = trio.current_time()
    with pytest.raises(Unavailable):
        await Retry(Backoff(uniform=longest))(Act(*[Unavailable("away")] * 99), give_up_after_s=10.0)
    assert trio.current_time() - begun <= 10.0


async def test_reset_ends_the_wait(autojump_clock: MockClock) -> None:
    """ "Try now" does not wait for the backoff."""
    retry = Retry(Backoff(100.0, 100.0, longest))
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retry, Act(Unavailable("away")))
        await trio.sleep(3)
        retry.reset()
    assert trio.current_time() - begun == pytest.approx(3)
