"""Reads and writes of a draft, held against the checksums of its blocks.

A read of part of a block whose sum is known reads all that the sum covers. The block that was read last is remembered, so that a
program that reads a file in small pieces pays for each block once.
"""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import Corrupt
from bucketfs.journal.checksums import BLOCK_SIZE, Sum, Sums, is_sealed, matches, size_of
from bucketfs.types import DraftId

Part = tuple[int, memoryview]
"""Where bytes go, and the bytes."""


@dataclass(frozen=True, slots=True)
class _Seen:
    draft: DraftId
    block: int
    known: Sum
    data: bytes


class Checked:
    """What of drafts is read and may be written, on ``disk``. Any thread may call; the bytes of one draft are not written on one
    thread while they are read on another."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._seen: _Seen | None = None

    def read(self, draft: DraftId, file: DiskFile, sums: Sums, offset: int, size: int) -> bytes:
        """The bytes at ``offset``, fewer than ``size`` only at the end of the file. Corrupt when some are not what was written."""
        if not sums:
            return self._disk.pread(file, offset, size)
        parts: list[bytes] = []
        stop = offset + size
        while offset < stop:
            block, low = divmod(offset, BLOCK_SIZE)
            high = min(BLOCK_SIZE, low + stop - offset)
            data = self._block(draft, file, block, sums[block], low, high)
            parts.append(data)
            offset += high - low
            if len(data) < high - low:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def open_parts(
        self, draft: DraftId, file: DiskFile, sums: Sums, offset: int, data: bytes | memoryview
    ) -> list[Part] | None:
        """The parts of ``data`` that have to be written, for the rest is there, sealed; None when sealed bytes would become other
        ones, or what stays of a block is damaged, so that a sum of it later would call the damage right."""
        view = memoryview(data)
        if not sums:
            return [(offset, view)]
        try:
            for block in sums.disturbed(offset, len(view)):
                self._block(draft, file, block, sums[block], 0, 0)
            parts: list[Part] = []
            at = offset
            for start, stop in sums.sealed_in(offset, len(view)):
                if self.read(draft, file, sums, start, stop - start) != view[start - offset : stop - offset]:
                    return None
                if at < start:
                    parts.append((at, view[at - offset : start - offset]))
                at = stop
        except Corrupt:
            return None
        if at < offset + len(view):
            parts.append((at, view[at - offset :]))
        return parts

    def _block(self, draft: DraftId, file: DiskFile, block: int, known: Sum, low: int, high: int) -> bytes:
        """Bytes ``[low, high)`` of a block, which is right as far as its sum goes."""
        start = block * BLOCK_SIZE
        size = size_of(known)
        # Bytes behind the summed ones have no sum yet. An empty range asks for nothing but the check (`open_parts`).
        if not size or (low >= size and low < high):
            return self._disk.pread(file, start + low, high - low)
        # Looked up once: a read on another thread may replace it at any moment.
        seen = self._seen
        # What stands behind the summed bytes may have been written since, and a sealed sum stays the same then.
        if seen is not None and (seen.draft, seen.block, seen.known) == (draft, block, known) and high <= size:
            return seen.data[low:high]
        data = self._disk.pread(file, start, max(high, size))
        if not matches(known, data):
            why = "was sealed with" if is_sealed(known) else "was written with"
            raise Corrupt(f"bytes {start} to {start + size} of draft {draft} do not have the checksum that it {why}")
        self._seen = _Seen(draft, block, known, data)
        return data if (low, high) == (0, len(data)) else data[low:high]
