"""Checksums of the bytes of one draft, block by block. Pure.

A draft is summed in blocks of 262,144 bytes, by offset: one CRC-32 over the first bytes of a block, up to some number of them. A
block that is written front to back has a sum at every moment, for the sum goes on from where it was and nothing is read back. One
that is written in another order has none until it is read back.

A sum may be *sealed*: it stands in the journal, and its bytes are durable. Sealed bytes never change again. A write of other
bytes there begins another draft. So a seal is right whatever part of later writes and records a crash takes, and no write ever
waits until the disk knows that a seal does not hold any more. Bytes behind the sealed ones of a block may be written.

How sums are kept: there may be a hundred thousand drafts of one block, so the first block's sum stands by itself, the next ones in
an array, and those of a file of far holes in a dict. A sum is one number: CRC, how many bytes it covers, and whether it is sealed.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bucketfs.journal.extents import Interval
from bucketfs.journal.ops import Seal
from bucketfs.types import DraftId

BLOCK_SIZE = 262_144
"""The size of a leaf, too: a push reads what it checks."""

RUN_BLOCKS_MAX = 65_536
"""How many sums one record holds at most: half a megabyte of text."""

HOLE_BLOCKS_MAX = 1024
"""A larger hole, and larger than what is in front of it, takes the sums into a dict: 8 KiB of zeros for nothing."""

Sum = int
"""The low 32 bits are the CRC, the next 19 the number of bytes covered, the one above says sealed. 0 is no sum."""

_SIZE_SHIFT = 32
_SEALED = 1 << 51
# 19 bits: a whole block has 1 << 18 bytes, and that number takes the nineteenth.
_SIZE_MASK = (1 << 19) - 1
_CRC_MASK = (1 << 32) - 1


def sum_of(data: bytes | memoryview) -> Sum:
    """The sum of bytes that a block begins with."""
    return zlib.crc32(data) | len(data) << _SIZE_SHIFT


def size_of(known: Sum) -> int:
    """How many bytes a sum covers; 0 for no sum."""
    return known >> _SIZE_SHIFT & _SIZE_MASK


def matches(known: Sum, data: bytes | memoryview) -> bool:
    """Whether ``data``, which begins where the block does, is long enough for a sum and has it."""
    size = size_of(known)
    return len(data) >= size and zlib.crc32(memoryview(data)[:size]) == known & _CRC_MASK


def is_sealed(known: Sum) -> bool:
    """Whether a sum stands in the journal."""
    return bool(known & _SEALED)


class Sums:
    """What is known of the blocks of one draft. Offsets and sizes are bytes; a block is named by its number."""

    __slots__ = ("_first", "_more")

    def __init__(self) -> None:
        self._first: Sum = 0
        self._more: array[int] | dict[int, Sum] | None = None

    def __getitem__(self, block: int) -> Sum:
        """The sum of a block, 0 when it is not known."""
        if not block:
            return self._first
        more = self._more
        if more is None:
            return 0
        if isinstance(more, dict):
            return more.get(block, 0)
        return more[block - 1] if block <= len(more) else 0

    def __bool__(self) -> bool:
        """Whether any sum is known."""
        return bool(self._first) or self._more is not None

    def items(self) -> Iterator[tuple[int, Sum]]:
        """The blocks whose sums are known, ascending."""
        if self._first:
            yield 0, self._first
        more = self._more
        if isinstance(more, dict):
            yield from sorted(more.items())
        elif more is not None:
            yield from ((block, known) for block, known in enumerate(more, 1) if known)

    # Writes

    def disturbed(self, offset: int, size: int) -> list[int]:
        """The blocks whose known sums say nothing any more once so many bytes are written at ``offset``: their bytes are to be
        checked before, or a later reading back would take damage for what was written."""
        found = []
        for block, low, high in _split(offset, size):
            known = self[block]
            if known and not is_sealed(known) and low != size_of(known) and (low or high < size_of(known)):
                found.append(block)
        return found

    def sealed_in(self, offset: int, size: int) -> list[Interval]:
        """The sealed bytes among so many at ``offset``, as intervals, ascending."""
        found = []
        for block, low, high in _split(offset, size):
            known = self[block]
            if is_sealed(known) and low < size_of(known):
                start = block * BLOCK_SIZE
                found.append((start + low, start + min(high, size_of(known))))
        return found

    def wrote(self, offset: int, data: bytes | memoryview) -> None:
        """Bytes were written, none of them over sealed ones."""
        view = memoryview(data)
        for block, low, high in _split(offset, len(data)):
            known = self[block]
            if is_sealed(known):
                continue  # behind what is sealed; the whole is summed when it is sealed anew
            at = block * BLOCK_SIZE - offset
            part = view[at + low : at + high]
            if known and low == size_of(known):
                self._put(block, zlib.crc32(part, known & _CRC_MASK) | high << _SIZE_SHIFT)
            elif not low and high >= size_of(known):
                self._put(block, sum_of(part))
            elif known:
                self._put(block, 0)

    def forget(self, offset: int, size: int) -> None:
        """What so many bytes at ``offset`` are now is not known, as after a write that failed. Seals stay."""
        for block, _, _ in _split(offset, size):
            if self[block] and not is_sealed(self[block]):
                self._put(block, 0)

    def cut(self, size: int) -> None:
        """The blocks that begin at or behind ``size`` bytes are needed no more. Seals stay, for their records do."""
        # The block that ``size`` falls into keeps its sum, which may cover bytes behind it: the file keeps those too
        # (`draft_cuts`).
        first = -(-size // BLOCK_SIZE)
        for block, known in list(self.items()):
            if block >= first and not is_sealed(known):
                self._put(block, 0)

    # Seals

    def seal(self, record: Seal) -> None:
        """The record is in the journal."""
        for at, block in enumerate(range(record.start // BLOCK_SIZE, -(-record.stop // BLOCK_SIZE))):
            size = min(record.stop - block * BLOCK_SIZE, BLOCK_SIZE)
            self._put(block, int.from_bytes(record.sums[at * 4 : at * 4 + 4], "big") | size << _SIZE_SHIFT | _SEALED)

    @property
    def sealed(self) -> bool:
        """Whether any block is sealed."""
        return any(is_sealed(known) for _, known in self.items())

    @property
    def sealed_size(self) -> int:
        """Where the last sealed byte ends; 0 when none is sealed."""
        return max((block * BLOCK_SIZE + size_of(known) for block, known in self.items() if is_sealed(known)), default=0)

    def seals(self, draft: DraftId) -> Iterator[Seal]:
        """The records that say again what is sealed."""
        return records_of(draft, ((block, known) for block, known in self.items() if is_sealed(known)))

    def _put(self, block: int, known: Sum) -> None:
        if not block:
            self._first = known
            return
        more = self._more
        if more is None:
            more = self._more = array("Q")
        if isinstance(more, array):
            hole = block - 1 - len(more)
            if hole <= max(len(more), HOLE_BLOCKS_MAX):
                if hole >= 0:
                    more.frombytes(bytes(8 * (hole + 1)))
                more[block - 1] = known
                return
            more = self._more = {at: one for at, one in enumerate(more, 1) if one}
        if known:
            more[block] = known
        else:
            more.pop(block, None)


@dataclass(frozen=True, slots=True)
class Survey:
    """What of a draft can be sealed: its blocks with their sums. ``read_bytes`` were read back for that. ``more``: not all was
    looked at."""

    found: Mapping[int, Sum]
    read_bytes: int
    more: bool


def survey(sums: Sums, extents: Iterable[Interval], read: Callable[[int, int], bytes], read_max: int) -> Survey:
    """The sums of all blocks that ``extents`` touch and that are not sealed as far as they do. Those that are not known are read
    back by ``read(offset, size)``, as long as no more than ``read_max`` bytes are. What proves damaged on the way is left out."""
    found: dict[int, Sum] = {}
    read_bytes = 0
    for block, size in _touched(extents):
        known = sums[block]
        if size_of(known) >= size:
            if not is_sealed(known):
                found[block] = known
        elif read_bytes + size > read_max:
            return Survey(found, read_bytes, True)
        else:
            data = read(block * BLOCK_SIZE, size)
            read_bytes += size
            # What was known must hold still, or the sum of more bytes would call damage right.
            if len(data) == size and matches(known, data):
                found[block] = sum_of(data)
        if len(found) >= RUN_BLOCKS_MAX:
            return Survey(found, read_bytes, True)
    return Survey(found, read_bytes, False)


def records_of(draft: DraftId, sums: Iterable[tuple[int, Sum]]) -> Iterator[Seal]:
    """The records of sums, which come by ascending blocks: a record holds blocks in a row, all but the last of them whole."""
    start = stop = 0
    held = bytearray()
    for block, known in sums:
        at = block * BLOCK_SIZE
        if held and (at != stop or len(held) >= 4 * RUN_BLOCKS_MAX):
            yield Seal(draft, start, stop, bytes(held))
            held.clear()
        if not held:
            start = at
        held += (known & _CRC_MASK).to_bytes(4, "big")
        stop = at + size_of(known)
    if held:
        yield Seal(draft, start, stop, bytes(held))


def _split(offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """The blocks of so many bytes at ``offset``, and where in each they begin and end."""
    stop = offset + size
    while offset < stop:
        block, low = divmod(offset, BLOCK_SIZE)
        high = min(BLOCK_SIZE, low + stop - offset)
        yield block, low, high
        offset += high - low


def _touched(extents: Iterable[Interval]) -> Iterator[tuple[int, int]]:
    """The blocks that ascending extents touch, and how far."""
    last, size = -1, 0
    for start, stop in extents:
        for block, _, high in _split(start, stop - start):
            if block != last and last >= 0:
                yield last, size
            last, size = block, high
    if last >= 0:
        yield last, size
