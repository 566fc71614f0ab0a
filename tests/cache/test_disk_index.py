"""The index of the disk tier against a plain list in the order of use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bucketfs.cache.disk_index import PAGE_SIZE, DiskIndex, cost

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
sizes = st.integers(0, 3 * PAGE_SIZE)
steps = st.one_of(
    st.tuples(st.just("add"), keys, sizes),
    st.tuples(st.just("touch"), keys),
    st.tuples(st.just("drop"), keys),
    st.tuples(st.just("victims"), sizes),
)


@given(st.lists(steps, max_size=30), st.integers(0, 10 * PAGE_SIZE))
def test_the_least_recently_used_goes_first(history: list[tuple[str, ...]], limit: int) -> None:
    index = DiskIndex(limit)
    model: list[tuple[bytes, int]] = []
    for verb, *arguments in history:
        if verb == "add":
            key, size = arguments
            index.add(key, size)
            model = [(other, n) for other, n in model if other != key] + [(key, size)]
        elif verb == "touch":
            (key,) = arguments
            if key in index:
                index.touch(key)
                model.sort(key=lambda block: block[0] == key)
        elif verb == "drop":
            (key,) = arguments
            index.drop(key)
            model = [(other, n) for other, n in model if other != key]
        else:
            (give_up,) = arguments
            used = sum(cost(n) for _, n in model)
            expected = []
            while model and sum(cost(n) for _, n in model) > min(limit, used - give_up):
                expected.append(model.pop(0))
            assert index.victims(give_up) == expected
        assert index.used_bytes == sum(cost(n) for _, n in model)
        assert len(index) == len(model)
        for key, size in model:
            assert key in index and index.size(key) == size
    index.clear()
    assert (len(index), index.used_bytes, index.size(b"a")) == (0, 0, None)


@given(st.integers(0, 100_000))
def test_a_block_counts_for_at_least_its_bytes_and_a_page(size: int) -> None:
    assert max(size, PAGE_SIZE) <= cost(size) <= size + PAGE_SIZE


def test_a_use_is_written_down_once_in_an_epoch() -> None:
    index = DiskIndex(64 * PAGE_SIZE)
    index.add(b"a", 1)
    assert [index.touch(b"a"), index.touch(b"a")] == [False, False]
    for number in range(4):
        index.add(b"%d" % number, 1)
    assert index.epoch > 0
    assert [index.touch(b"a"), index.touch(b"a")] == [True, False]


def test_a_later_run_goes_on_in_the_order_of_epochs() -> None:
    index = DiskIndex(10 * PAGE_SIZE)
    index.load([(b"old", 1, 3), (b"new", 1, 7)])
    assert index.epoch == 7
    assert index.victims(1) == [(b"old", 1)]
