"""Extents against a plain set of byte offsets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs.errors import InvalidArgument
from bucketfs.journal import Extents

SPAN = 24
ranges = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN)).map(lambda pair: (min(pair), max(pair)))
steps = st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "truncate"]), ranges), max_size=20)


def offsets(intervals: object) -> set[int]:
    return {at for low, high in intervals for at in range(low, high)}  # type: ignore[attr-defined]


@given(steps, ranges)
def test_every_question_is_answered_as_by_a_set(history: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]) -> None:
    """A byte that is taken for held and is not reads as zeros, and is pushed as such."""
    extents, model = Extents(), set()
    for verb, (start, stop) in history:
        if verb == "add":
            extents.add(start, stop)
            model |= set(range(start, stop))
        elif verb == "remove":
            extents.remove(start, stop)
            model -= set(range(start, stop))
        else:
            extents.truncate(start)
            model = {at for at in model if at < start}
        items = extents.items()
        assert offsets(items) == model
        assert all(low < high for low, high in items)
        assert all(left[1] < right[0] for left, right in pairwise(items)), "touching intervals are one"
    wanted = set(range(*asked))
    assert offsets(extents.intersect(*asked)) == wanted & model
    assert offsets(extents.holes(*asked)) == wanted - model
    assert extents.size_bytes == len(model)
    assert extents.stop == (max(model) + 1 if model else 0)
    assert bool(extents) == bool(model)
    assert Extents(extents.items()) == extents == extents.copy()


def test_a_copy_is_independent() -> None:
    """A push reads the extents of its moment while the program goes on writing."""
    first = Extents([(0, 4)])
    second = first.copy()
    second.add(8, 9)
    second.remove(0, 1)
    assert first.items() == ((0, 4),)
    assert second.items() == ((1, 4), (8, 9))
    second.clear()
    assert not second


@pytest.mark.parametrize("bad", [(-1, 2), (3, 2)])
def test_a_range_that_makes_no_sense_is_refused(bad: tuple[int, int]) -> None:
    """A negative length is a bug, and must not eat a file."""
    with pytest.raises(InvalidArgument):
        Extents().add(*bad)
    with pytest.raises(InvalidArgument):
        Extents().remove(*bad)
