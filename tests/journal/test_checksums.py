"""Checksums of a draft's blocks: what is known is right, whatever was written, cut and sealed in which order."""

from __future__ import annotations

import sys
import zlib

from hypothesis import given
from hypothesis import strategies as st

from bucketfs.journal import Extents
from bucketfs.journal.checksums import (
    BLOCK_SIZE,
    HOLE_BLOCKS_MAX,
    Sums,
    is_sealed,
    matches,
    records_of,
    size_of,
    sum_of,
    survey,
)
from bucketfs.journal.ops import Seal
from bucketfs.types import DraftId

DRAFT = DraftId(7)
NEAR = [0, 1, 4096, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE - 5]
writes = st.tuples(st.just("write"), st.sampled_from(NEAR), st.sampled_from([1, 7, 4096, BLOCK_SIZE, BLOCK_SIZE + 9]))
appends = st.tuples(st.just("append"), st.just(0), st.sampled_from([1, 300, BLOCK_SIZE - 1, BLOCK_SIZE, 2 * BLOCK_SIZE]))
cuts = st.tuples(st.just("cut"), st.sampled_from(NEAR), st.just(0))
failures = st.tuples(st.just("fail"), st.sampled_from(NEAR), st.sampled_from([1, BLOCK_SIZE]))
seals = st.tuples(st.just("seal"), st.sampled_from([0, BLOCK_SIZE, 1 << 30]), st.just(0))


class File:
    """A draft as the code around `Sums` treats it, with what was sealed kept beside."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.bytes = bytearray()
        self.extents = Extents()
        self.sealed: dict[int, bytes] = {}
        self.count = 0

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.bytes[offset : offset + size])

    def act(self, kind: str, at: int, size: int) -> None:
        if kind == "append":
            at = self.extents.stop
        if kind in ("write", "append", "fail"):
            self.write(at, size, fails=kind == "fail")
        elif kind == "cut":
            self.extents.truncate(at)
            self.sums.cut(at)
        else:
            self.seal(at)

    def write(self, at: int, size: int, *, fails: bool) -> None:
        self.count += 1
        data = bytes([self.count % 251]) * size
        if self.sums.sealed_in(at, size):
            return
        for block in self.sums.disturbed(at, size):
            assert matches(self.sums[block], self.read(block * BLOCK_SIZE, BLOCK_SIZE))
        if fails:
            data = data[: size // 2]
        if at > len(self.bytes):
            self.bytes.extend(bytes(at - len(self.bytes)))
        self.bytes[at : at + len(data)] = data
        if fails:
            self.sums.forget(at, size)
        else:
            self.sums.wrote(at, data)
            self.extents.add(at, at + size)

    def seal(self, read_max: int) -> None:
        found = survey(self.sums, self.extents, self.read, read_max)
        assert found.read_bytes <= read_max
        for record in records_of(DRAFT, sorted(found.found.items())):
            self.sums.seal(record)
            for block in range(record.start // BLOCK_SIZE, -(-record.stop // BLOCK_SIZE)):
                self.sealed[block] = self.read(block * BLOCK_SIZE, min(record.stop - block * BLOCK_SIZE, BLOCK_SIZE))
        if not found.more:
            for start, stop in self.extents:
                for block in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
                    high = min(stop - block * BLOCK_SIZE, BLOCK_SIZE)
                    assert is_sealed(self.sums[block]) and size_of(self.sums[block]) >= high

    def check(self) -> None:
        for block, known in self.sums.items():
            assert self.sums[block] == known
            data = self.read(block * BLOCK_SIZE, BLOCK_SIZE)
            assert size_of(known) <= len(data)
            assert zlib.crc32(data[: size_of(known)]) == known & 0xFFFF_FFFF, "a sum of other bytes"
        for block, data in self.sealed.items():
            assert self.read(block * BLOCK_SIZE, len(data)) == data, "sealed bytes changed"
            assert is_sealed(self.sums[block]) and size_of(self.sums[block]) >= len(data), "a seal was forgotten"


@given(st.lists(st.one_of(writes, appends, cuts, failures, seals), max_size=12))
def test_what_is_known_is_right(acts: list[tuple[str, int, int]]) -> None:
    """A wrong sum would call a user's good bytes damaged, or damaged bytes good."""
    file = File()
    for act in acts:
        file.act(*act)
        file.check()
    again = Sums()
    for record in file.sums.seals(DRAFT):
        again.seal(record)
    assert {block: known for block, known in file.sums.items() if is_sealed(known)} == dict(again.items())
    assert again.sealed_size == max((block * BLOCK_SIZE + len(data) for block, data in file.sealed.items()), default=0)


@given(st.lists(st.integers(1, 3 * BLOCK_SIZE), min_size=1, max_size=6))
def test_what_is_written_front_to_back_is_known_without_reading(sizes: list[int]) -> None:
    """Checksums of ordinary files cost no reading."""
    file = File()
    for size in sizes:
        file.act("append", 0, size)

    def refuse(offset: int, size: int) -> bytes:
        raise AssertionError(f"read back {size} bytes at {offset}")

    found = survey(file.sums, file.extents, refuse, 1 << 30)
    assert sum(size_of(known) for known in found.found.values()) == sum(sizes)


def test_damage_that_is_found_on_the_way_is_not_sealed() -> None:
    """A seal over damage would vouch for it for ever."""
    file = File()
    file.act("append", 0, 2 * BLOCK_SIZE + 10)
    file.seal(0)
    file.act("append", 0, 10)  # behind the sealed part of the last block
    file.bytes[2 * BLOCK_SIZE + 3] ^= 1
    found = survey(file.sums, file.extents, file.read, 1 << 30)
    assert not found.found and not found.more
    file.bytes[2 * BLOCK_SIZE + 3] ^= 1
    assert list(survey(file.sums, file.extents, file.read, 1 << 30).found) == [2]


def test_a_short_file_is_not_sealed_where_it_lacks_bytes() -> None:
    """Bytes that the disk lost are never sealed as zeros."""
    file = File()
    file.act("write", 5, BLOCK_SIZE)  # which begins in a block and so is not summed there
    del file.bytes[BLOCK_SIZE:]
    found = survey(file.sums, file.extents, file.read, 1 << 30)
    assert list(found.found) == [0, 1], "the second block was summed when it was written"
    file.sums.forget(0, 2 * BLOCK_SIZE)
    assert list(survey(file.sums, file.extents, file.read, 1 << 30).found) == [0]


def test_far_blocks_cost_no_more_than_near_ones() -> None:
    """A sparse file of a terabyte takes no memory for its hole."""
    sums = Sums()
    far = 40_000_000 * BLOCK_SIZE
    for offset in (0, BLOCK_SIZE, 5 * BLOCK_SIZE, HOLE_BLOCKS_MAX * BLOCK_SIZE, far, far + BLOCK_SIZE):
        sums.wrote(offset, b"x" * 10)
    blocks = [block for block, _ in sums.items()]
    assert blocks == [0, 1, 5, HOLE_BLOCKS_MAX, far // BLOCK_SIZE, far // BLOCK_SIZE + 1]
    assert sys.getsizeof(sums._more) < 100_000
    assert all(sums[block] == sum_of(b"x" * 10) for block in blocks)
    assert sums[2] == sums[10**9] == 0


def test_records_break_where_blocks_are_not_in_a_row() -> None:
    """Each seal says just the bytes that it sums."""
    whole, part = sum_of(bytes(BLOCK_SIZE)), sum_of(b"abc")
    made = list(records_of(DRAFT, [(0, whole), (1, part), (2, whole), (4, whole)]))
    bounds = [(record.start // BLOCK_SIZE, record.stop) for record in made]
    assert bounds == [(0, BLOCK_SIZE + 3), (2, 3 * BLOCK_SIZE), (4, 5 * BLOCK_SIZE)]
    assert [len(record.sums) for record in made] == [8, 4, 4]
    sums = Sums()
    for record in made:
        sums.seal(record)
    assert size_of(sums[1]) == 3 and is_sealed(sums[1]) and not sums[3]
    assert sums.sealed_in(BLOCK_SIZE + 1, BLOCK_SIZE) == [
        (BLOCK_SIZE + 1, BLOCK_SIZE + 3),
        (2 * BLOCK_SIZE, 2 * BLOCK_SIZE + 1),
    ]
    assert isinstance(made[0], Seal)
