"""Which drafts can be shorter, since files were cut: no sooner than a segment is durable that does not name the bytes. Pure.

A record before the cut may name the bytes, and a power loss may take the record of the cut. So a cut waits for the next
checkpoint, and the file is trimmed when that is durable.
"""

from __future__ import annotations

from collections.abc import Mapping

from bucketfs.journal.checksums import BLOCK_SIZE, Sums
from bucketfs.types import DraftId


class DraftCuts:
    """The drafts that were cut, and how long they have to stay."""

    def __init__(self) -> None:
        self._cut: dict[DraftId, int] = {}  # since the last checkpoint
        self._behind_checkpoint: dict[DraftId, int] = {}
        self._trimming: set[DraftId] = set()

    def cut(self, draft: DraftId, size: int) -> None:
        """The bytes of ``draft`` from ``size`` on are needed no more."""
        self._cut[draft] = _whole_blocks(size)

    def grow(self, draft: DraftId, stop: int) -> bool:
        """Bytes up to ``stop`` are about to be written; False when the file is being trimmed, and nothing may be."""
        if draft in self._trimming:
            return False
        for sizes in (self._cut, self._behind_checkpoint):
            if draft in sizes:
                # Or the trim would take these bytes with those that were cut off.
                sizes[draft] = max(sizes[draft], _whole_blocks(stop))
        return True

    def note_checkpoint(self) -> None:
        """A new segment says which bytes of the drafts count: none of those that were cut off before."""
        self._behind_checkpoint |= self._cut
        self._cut = {}

    def begin_trim(self, known: Mapping[DraftId, Sums]) -> list[tuple[DraftId, int]]:
        """The drafts that can be shorter, and how long they must stay, now that the segment is durable. Until `end_trim` nothing is
        written to them."""
        wanted, self._behind_checkpoint = self._behind_checkpoint, {}
        # Sealed bytes never change again.
        found = [(draft, size) for draft, size in wanted.items() if draft in known and known[draft].sealed_size <= size]
        self._trimming = {draft for draft, _ in found}
        return found

    def end_trim(self) -> None:
        """It is done, or failed."""
        self._trimming = set()


def _whole_blocks(size: int) -> int:
    """The length up to the end of a block: its sum may cover bytes behind ``size``."""
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE
