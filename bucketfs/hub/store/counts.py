"""The block store in numbers: what a call put, and what there is in all. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """Blocks and bytes that came, and how many of them were new."""

    blocks_received: int = 0
    blocks_stored: int = 0
    bytes_received: int = 0
    bytes_stored: int = 0

    def __add__(self, other: StoredCounts) -> StoredCounts:
        return StoredCounts(
            self.blocks_received + other.blocks_received,
            self.blocks_stored + other.blocks_stored,
            self.bytes_received + other.bytes_received,
            self.bytes_stored + other.bytes_stored,
        )


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """How much the store holds. ``pack_bytes`` is what packs take on disk, dead bytes included."""

    blocks: int
    bytes: int
    blocks_damaged: int
    packs: int
    pack_bytes: int
    uploads: int
