"""Group commit: blocks that many threads store together become durable with one sync of the pack and one of the index.

Threads fill one `Batch`; the first that needs it durable flushes it for all. Order of a flush: the packs are synced, then the rows
are written. So after a crash each row names bytes that are there, and bytes that no row names are cut off or written over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bucketfs.errors import BucketfsError
from bucketfs.hub.store.blockindex import BlockIndex, PackPlace, StoredBlock
from bucketfs.hub.store.packs import PackWriter, pack_path

SMALL_MAX = 16 * 1024
"""Blocks shorter than this are rows of the index, in bytes."""
PENDING_BYTES_MAX = 64 * 1024 * 1024
"""A batch that holds so much is flushed without being asked."""


@dataclass(slots=True, eq=False)
class Batch:
    """Blocks written but not yet durable. ``done`` is set when they are, or when ``error`` says why they never will be."""

    large: dict[bytes, PackPlace] = field(default_factory=dict)
    small: dict[bytes, bytes] = field(default_factory=dict)
    writers: list[PackWriter] = field(default_factory=list)
    size_bytes: int = 0
    error: BucketfsError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def holds(self, multihash: bytes) -> bool:
        return multihash in self.large or multihash in self.small


class GroupCommit:
    """What was written and is not durable yet, and the pack that this process appends to. Thread-safe."""

    def __init__(
        self, folder: Path, index: BlockIndex, pack_bytes_max: int, now_ns: Callable[[], int], on_flushed: Callable[[], None]
    ) -> None:
        """``on_flushed`` is called after each flush, whatever became of it."""
        self._folder = folder
        self._index = index
        self._pack_bytes_max = pack_bytes_max
        self._now_ns = now_ns
        self._on_flushed = on_flushed
        # Taken in this order. _flush: one batch becomes durable at a time. _write: the batch being filled and the pack.
        self._flush_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._filling = Batch()
        self._flushing: Batch | None = None
        self._pack: PackWriter | None = None

    def find(self, names: Collection[bytes]) -> dict[bytes, StoredBlock]:
        """Those that are pending, with where they are or will be."""
        found: dict[bytes, StoredBlock] = {}
        for batch in (self._filling, self._flushing):
            if batch is None:
                continue
            for name in names:
                if name in batch.small:
                    found[name] = StoredBlock(PackPlace(0, 0, len(batch.small[name])), False, batch.small[name])
                elif name in batch.large:
                    found[name] = StoredBlock(batch.large[name], False, None)
        return found

    def holds(self, names: Collection[bytes]) -> set[bytes]:
        """Those that are pending."""
        with self._write_lock:
            batches = (self._filling, self._flushing)
            return {name for batch in batches if batch for name in names if batch.holds(name)}

    def add(self, blocks: Mapping[bytes, bytes], check_room: Callable[[int], None]) -> tuple[list[Batch], int, int]:
        """Write the blocks that are new, after ``check_room`` has seen how many bytes they have.

        Returns the batches that make all of ``blocks`` durable, the number of new ones and their bytes.
        """
        present = self._index.present(blocks)
        with self._write_lock:
            absent = {name: data for name, data in blocks.items() if name not in present}
            waiting = [batch for batch in (self._flushing,) if batch and any(batch.holds(name) for name in absent)]
            new = {
                name: data
                for name, data in absent.items()
                if not self._filling.holds(name) and not any(batch.holds(name) for batch in waiting)
            }
            size_bytes = sum(map(len, new.values()))
            if size_bytes:
                check_room(size_bytes)
            large = {name: data for name, data in new.items() if len(data) >= SMALL_MAX}
            if large:
                self._append(large)
            batch = self._filling
            batch.small.update((name, data) for name, data in new.items() if name not in large)
            batch.size_bytes += size_bytes
            is_full = batch.size_bytes >= PENDING_BYTES_MAX
        if is_full:
            self.flush(batch)
        return [*waiting, batch], len(new), size_bytes

    def _append(self, large: Mapping[bytes, bytes]) -> None:
        pack = self._current_pack()
        offset = pack.append(list(large.values()))
        for name, data in large.items():
            self._filling.large[name] = PackPlace(pack.number, offset, len(data))
            offset += len(data)
        if pack not in self._filling.writers:
            self._filling.writers.append(pack)

    def _current_pack(self) -> PackWriter:
        if self._pack is not None and self._pack.end >= self._pack_bytes_max:
            # Its blocks may still be pending: the batch that holds them closes it after its sync.
            retired, self._pack = self._pack, None
            if retired not in self._filling.writers and (self._flushing is None or retired not in self._flushing.writers):
                retired.close()
        if self._pack is None:
            self._pack = self._adopt_pack() or self.begin_pack()
        return self._pack

    def begin_pack(self) -> PackWriter:
        """A new pack for the caller alone, who closes it. Raises NoSpace, DiskFailed."""
        number = self._index.new_pack()
        return PackWriter.create(pack_path(self._folder, number), number)

    def _adopt_pack(self) -> PackWriter | None:
        """A pack that a process which ended left half full."""
        for number, (_, end) in sorted(self._index.pack_usage().items()):
            if end < self._pack_bytes_max // 2:
                pack = PackWriter.adopt(pack_path(self._folder, number), number)
                if pack is not None:
                    # Ask again under the lock: its former holder may have added rows since.
                    pack.cut(self._index.pack_end(number))
                    return pack
        return None

    def flush(self, batch: Batch | None = None) -> None:
        """Make a batch durable, or the one that is being filled. Returns when it is, whichever thread did it.

        Raises what kept it from becoming so.
        """
        batch = batch or self._filling
        if not batch.done.is_set():
            with self._flush_lock:
                if not batch.done.is_set():
                    self._flush_next()
        if batch.error is not None:
            raise type(batch.error)(str(batch.error)) from batch.error

    def _flush_next(self) -> None:
        with self._write_lock:
            batch = self._flushing = self._filling
            self._filling = Batch()
        try:
            for writer in batch.writers:
                writer.sync()
            if batch.large or batch.small:
                self._index.add(list(batch.large.items()), list(batch.small.items()), self._now_ns())
        except BucketfsError as error:
            batch.error = error
        finally:
            self._on_flushed()
            with self._write_lock:
                self._flushing = None
                for writer in batch.writers:
                    if writer is not self._pack and writer not in self._filling.writers:
                        writer.close()
            if not batch.done.is_set():
                batch.done.set()

    def give_up_pack(self) -> None:
        """Closes the pack that this process appends to, so that the collector may rewrite it; another is begun next."""
        self.flush()
        with self._write_lock:
            pack, self._pack = self._pack, None
            if pack is not None and pack not in self._filling.writers:
                pack.close()
