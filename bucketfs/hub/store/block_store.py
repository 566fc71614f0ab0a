"""What a Hub expects of a block store, whatever stands behind it. Pure.

What a caller may count on:

1. ``BlockWriter.put`` stores a batch whole or not at all, and readers of this process see it when it returns.
2. After ``BlockWriter.finish`` (or ``put_many``) everything that was put survives a power cut.
3. Nothing wrong goes in or out: bytes are hashed when they come and when they leave. A damaged block counts as missing, so that
   the next client that has it brings it back.
4. A block that an upload put, or was told that the Hub has, is not collected before the upload's lease ends, also by another
   process: a lease is written *before* the store is asked for the last time whether the block is there. ``collect`` keeps the
   other half.
5. Several processes may use one store.

Identity CIDs carry their bytes; they are always there and never stored. Failures are Corrupt, NoSpace, Unavailable and
DiskFailed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from bucketfs.types import Cid

LEASE_S = 3600.0

Blocks = Mapping[Cid, bytes] | Iterable[tuple[Cid, bytes]]


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


@dataclass(slots=True)
class Collected:
    """What a collection did."""

    blocks_kept: int = 0
    blocks_deleted: int = 0
    bytes_deleted: int = 0
    packs_removed: int = 0
    bytes_moved: int = 0


class UploadCheck(Protocol):
    """Is asked before blocks are stored that are not here yet."""

    def admit(self, blocks: Mapping[Cid, int]) -> None:
        """These blocks, by their lengths, are about to be stored. Raises what forbids it."""

    def take_back(self, blocks: Iterable[Cid]) -> None:
        """They could not be stored."""


class Marks(Protocol):
    """What the buckets need, as far as their trees were walked."""

    def update(self) -> None:
        """Walks the roots that were not walked yet. May take long. Raises Corrupt when a tree cannot be walked to its end."""

    def are_current(self) -> bool:
        """Whether every bucket's root was walked. To be asked inside the transaction that deletes."""

    def hold(self, multihash: bytes) -> bool:
        """Whether a bucket needs the block."""


class BlockWriter(Protocol):
    """Batches of one upload on their way in; used by one thread. ``with`` it, and ``finish``."""

    def __enter__(self) -> BlockWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put(self, blocks: Blocks, *, verified: bool = False, makes_room: bool = False) -> StoredCounts:
        """Stores a batch. ``verified``: the caller made the CIDs from these bytes itself. ``makes_room``: a bucket becomes smaller
        by them, so they may take what is kept free."""

    def finish(self) -> None:
        """Everything put is durable on return."""


class BlockStore(Protocol):
    """Thread-safe. ``close`` it when every user is gone."""

    def get(self, cid: Cid) -> bytes:
        """The bytes of one block. Raises NotFound."""

    def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """The blocks that are here; others are left out."""

    def iterate(self, cids: Sequence[Cid]) -> Iterator[tuple[Cid, bytes | None]]:
        """Blocks one by one, in the order asked; ``None`` for one that is not here. Few of them are in memory at a time."""

    def lengths(self, cids: Collection[Cid]) -> dict[Cid, int]:
        """The length of each of these blocks that is here, in bytes; no block is read."""

    def missing(self, cids: Collection[Cid], upload: bytes = b"") -> list[Cid]:
        """Those that are not here, each once, in the order asked. With an ``upload`` the rest stays until its lease ends."""

    def receive(self, upload: bytes = b"", admission: UploadCheck | None = None) -> BlockWriter:
        """Begins a stream of batches for one upload. ``admission`` is asked before blocks are stored that are not here yet."""

    def put_many(
        self, blocks: Blocks, *, upload: bytes = b"", verified: bool = False, makes_room: bool = False
    ) -> StoredCounts:
        """One batch, durable on return; as ``BlockWriter.put``."""

    def release(self, upload: bytes) -> None:
        """The upload is over: a root (or nothing) holds its blocks now."""

    def check_room(self, size_bytes: int) -> None:
        """Raises NoSpace when contents of that many bytes do not fit."""

    def collect(self, marks: Marks, grace_s: float) -> Collected:
        """Deletes what ``marks`` do not hold, no lease holds and was stored more than ``grace_s`` ago. Safe beside users."""

    def figures(self) -> StoreFigures:
        """Counts over what is durable. Takes long: for status, not for every call."""

    def close(self) -> None:
        """Makes what is pending durable, then closes everything."""
