"""The journal's promises, for a stop at every disk call of scripted and of made-up histories."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.journal_histories import Step, check_every_way_back, crash_at, crash_everywhere

SCRIPTS: dict[str, list[Step]] = {
    "nothing": [],
    "records": [("create",), ("create",), ("sync",), ("create",)],
    "content": [("content", 0, 0, 8), ("content", 1, 8, 8), ("sync",), ("content", 1, 4, 8), ("content", 0, 3, 5)],
    "overwritten between syncs": [("content", 0, 0, 8), ("sync",), ("content", 1, 0, 8), ("sync",), ("content", 1, 2, 4)],
    "a push": [("content", 0, 0, 8), ("create",), ("push",), ("sync",), ("checkpoint", 0), ("settle",), ("create",)],
    "a push with leftovers": [
        ("content", 0, 0, 8),
        ("content", 0, 0, 8),
        ("push",),
        ("checkpoint", 2),
        ("content", 1, 8, 4),
        ("sync",),
        ("settle",),
    ],
    "checkpoints that are never settled": [("create",), ("checkpoint", 1), ("create",), ("checkpoint", 1), ("create",)],
    "settled twice": [("content", 0, 0, 4), ("checkpoint", 1), ("settle",), ("checkpoint", 0), ("settle",), ("settle",)],
    "killed and back": [("content", 0, 0, 4), ("restart",), ("content", 1, 4, 4), ("sync",), ("restart",), ("create",)],
    "killed between checkpoint and settle": [
        ("content", 0, 0, 4),
        ("sync",),
        ("checkpoint", 0),
        ("restart",),
        ("content", 0, 0, 4),
        ("settle",),
        ("sweep",),
    ],
    "power lost and back": [
        ("content", 0, 0, 4),
        ("sync",),
        ("content", 0, 0, 4),
        ("create",),
        ("power_loss", 3),
        ("create",),
        ("sync",),
        ("checkpoint", 1),
        ("power_loss", 5),
        ("settle",),
    ],
    "sealed, and appended to with an fsync": [
        ("content", 0, 0, 8),
        ("seal",),
        ("content", 1, 8, 8),
        ("sync",),
        ("content", 1, 16, 4),
        ("seal",),
        ("content", 1, 20, 4),
    ],
    "sealed, and written over": [
        ("content", 0, 0, 8),
        ("sync",),
        ("seal",),
        ("content", 1, 2, 4),
        ("content", 1, 4, 9),
        ("sync",),
        ("seal",),
        ("content", 1, 0, 1),
    ],
    "sealed, and killed": [
        ("content", 0, 0, 8),
        ("seal",),
        ("restart",),
        ("content", 1, 8, 4),
        ("restart",),
        ("content", 1, 6, 4),
        ("seal",),
        ("restart",),
        ("sync",),
    ],
    "sealed, and power lost": [
        ("content", 0, 0, 8),
        ("seal",),
        ("content", 1, 8, 4),
        ("content", 0, 0, 4),
        ("power_loss", 2),
        ("content", 1, 8, 4),
        ("seal",),
        ("power_loss", 4),
        ("sync",),
    ],
    "sealed, and carried on by checkpoints": [
        ("content", 0, 0, 4),
        ("content", 0, 0, 8),
        ("seal",),
        ("checkpoint", 1),
        ("content", 1, 8, 4),
        ("settle",),
        ("restart",),
        ("content", 1, 6, 1),
        ("checkpoint", 2),
        ("seal",),
        ("settle",),
    ],
    "discarded": [("content", 0, 0, 4), ("sync",), ("discard", 0), ("power_loss", 1), ("checkpoint", 0), ("settle",)],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stop_at_every_call_of_a_script(name: str) -> None:
    """Whichever disk call a kill or a power loss hits, what was acknowledged comes back."""
    calls = crash_everywhere(SCRIPTS[name], range(4))
    assert calls > (5 if SCRIPTS[name] else 2)


small = st.integers(0, 3)
steps = st.one_of(
    st.just(("create",)),
    st.tuples(st.just("content"), small, st.integers(0, 6), st.integers(1, 6)),
    st.just(("sync",)),
    st.just(("seal",)),
    st.tuples(st.just("checkpoint"), small),
    st.just(("settle",)),
    st.just(("sweep",)),
    st.just(("push",)),
    st.just(("restart",)),
    st.tuples(st.just("power_loss"), small),
    st.tuples(st.just("discard"), small),
)
made_up = st.lists(steps, min_size=2, max_size=9)
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(PATIENT, max_examples=60)
@given(made_up, st.integers(1, 60), st.booleans(), st.integers(0, 99))
def test_a_stop_at_one_call_of_a_made_up_history(history: list[Step], stop: int, stop_after: bool, seed: int) -> None:
    """Orders of calls that nobody thought of lose nothing either."""
    calls = len(crash_at(history).disk.calls)
    player = crash_at(history, (stop - 1) % calls + 1, stop_after=stop_after)
    check_every_way_back(player, range(seed, seed + 3))


@pytest.mark.whole
@pytest.mark.timeout(1800)
@settings(PATIENT, max_examples=150)
@given(made_up)
def test_a_stop_at_every_call_of_a_made_up_history(history: list[Step]) -> None:
    """The same, at each of their calls."""
    crash_everywhere(history, range(5))
