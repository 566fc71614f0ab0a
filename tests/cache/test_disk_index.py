"""The index of the disk tier against a plain list in the order of use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bucketfs.cache.disk_index import PAGE_SIZE, DiskIndex, cost

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
sizes = st.integers(0, 3 * PAGE_SIZE)
steps = st.tuples(st.sampled_from(["add", "touch", "drop", "victims"]), keys, sizes)


@given(st.lists(steps, max_size=30), st.integers(0, 10 * PAGE_SIZE))
def test_the_least_recently_used_goes_first(history: list[tuple[str, bytes, int]], limit: int) -> None:
    """A full cache keeps the blocks that were read last, and never more than its limit after `victims`."""
    index = DiskIndex(limit)
    model: list[tuple[bytes, int]] = []
    for verb, key, size in history:
        if verb == "add":
            index.add(key, size)
            model = [block for block in model if block[0] != key] + [(key, size)]
        elif verb == "touch":
            if key in index:
                index.touch(key)
                model.sort(key=lambda block: block[0] == key)
        elif verb == "drop":
            index.pop(key, None)
            model = [block for block in model if block[0] != key]
        else:
            used = sum(cost(n) for _, n in model)
            expected = []
            while model and sum(cost(n) for _, n in model) > min(limit, used - size):
                expected.append(model.pop(0))
            assert index.victims(size) == expected
        assert index.used_bytes == sum(cost(n) for _, n in model)
        assert len(index) == len(model)
        for held, held_size in model:
            assert held in index and index.size(held) == held_size
    index.clear()
    assert (len(index), index.used_bytes, index.size(b"a")) == (0, 0, 0)


@given(st.integers(0, 100_000))
def test_a_block_counts_for_at_least_its_bytes_and_a_page(size: int) -> None:
    """Many small blocks cannot outgrow the limit of the disk."""
    assert max(size, PAGE_SIZE) <= cost(size) <= size + PAGE_SIZE


def test_a_use_is_written_down_once_in_an_epoch() -> None:
    """Reading one block a thousand times does not write a thousand rows."""
    index = DiskIndex(64 * PAGE_SIZE)
    index.add(b"a", 1)
    assert [index.touch(b"a"), index.touch(b"a")] == [False, False]
    for number in range(4):
        index.add(b"%d" % number, 1)
    assert index.epoch > 0
    assert [index.touch(b"a"), index.touch(b"a")] == [True, False]


def test_a_later_run_goes_on_in_the_order_of_epochs() -> None:
    """After a restart the blocks that were used last are the last to go."""
    index = DiskIndex(10 * PAGE_SIZE)
    index.load([(b"old", 1, 3), (b"new", 1, 7)])
    assert index.epoch == 7
    assert index.victims(1) == [(b"old", 1)]
