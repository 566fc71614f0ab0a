"""Blocks of the base that pending changes need, kept beside the journal.

What waits in a journal means something on its base only. The cache may be deleted and a Hub may collect a tree that another
client has replaced, so the folders that were changed are kept here, from soon after their first change until nothing waits on
them::

    base/00000007       magic line, then frames: crc32[4] cid_length[2] block_length[4] cid block; numbers big-endian

``crc32`` covers the frame up to the block; for the block speaks its CID, and it is checked whenever it is read. A file is written
to by one run only, and read up to the first frame that is not whole. None of this is needed as long as cache or Hub have the block,
so the order of writes that the journal keeps is not kept here: `keep` writes without a sync, and `sync` comes when what waits has
waited for some seconds. No program's fsync waits for it.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bucketfs.dag import verify
from bucketfs.disk import Disk, DiskFile, PathLike, Workers
from bucketfs.errors import BucketfsError, Corrupt, NotFound
from bucketfs.types import Cid

MAGIC = b"bucketfs-base 1\n"
CID_SIZE_MAX = 256
COPY_BYTES = 1024 * 1024

SPARE_BYTES = 1024 * 1024
"""So much, and as much again as is needed, may lie here unneeded before it is written anew without that."""

_SUMMED = struct.Struct(">HI")
_HEADER_SIZE = 4 + _SUMMED.size
_NAME = re.compile(r"\d{8}")


@dataclass(eq=False, slots=True)
class _Pack:
    number: int
    file: DiskFile
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _At:
    pack: _Pack
    offset: int
    size: int


class PinnedBlocks:
    """The kept blocks of one journal. ``in`` and the figures are immediate; the rest awaits one thread. After `close` nothing is
    here."""

    def __init__(self, disk: Disk, folder: PathLike) -> None:
        self._disk = disk
        self._folder = os.fspath(folder)
        self._workers = Workers(1)
        self._lock = threading.Lock()  # of files and numbers, between the thread that works and the one that closes
        self._at: dict[Cid, _At] = {}
        self._packs: list[_Pack] = []
        self._writing: _Pack | None = None
        self._number_max = 0
        self._unsynced: set[_Pack] = set()
        self._names_synced = True
        self._closed = False

    def open(self) -> None:
        """Find what earlier runs left. Blocks. A file that cannot be read, is not ours, or a newer bucketfs's, is left alone: a
        journal opens without it. Raises DiskFailed when the folder itself cannot be read."""
        try:
            names = sorted(name for name in self._disk.list_folder(self._folder) if _NAME.fullmatch(name))
        except NotFound:
            return
        for name in names:
            # Before it is opened: a file that cannot be read keeps its name, and `_begin` makes the next one exclusively.
            self._number_max = int(name)
            with suppress(BucketfsError):
                self._adopt(_Pack(int(name), self._disk.open(f"{self._folder}/{name}"), 0))

    def _adopt(self, pack: _Pack) -> None:
        try:
            pack.size_bytes = self._disk.size(pack.file)
            ours = self._disk.pread(pack.file, 0, len(MAGIC)) == MAGIC
            if ours:
                self._scan(pack)
        except BucketfsError:
            self._at = {cid: at for cid, at in self._at.items() if at.pack is not pack}
            self._disk.close(pack.file)
            raise
        if ours:
            # Whether the run that wrote it had synced it is not known.
            self._unsynced.add(pack)
            self._names_synced = False
        if ours or pack.size_bytes < len(MAGIC):  # begun, and never written to
            self._packs.append(pack)
        else:
            self._disk.close(pack.file)

    def __contains__(self, cid: Cid) -> bool:
        return cid in self._at

    def __len__(self) -> int:
        return len(self._at)

    @property
    def size_bytes(self) -> int:
        """How much is on the disk."""
        return sum(pack.size_bytes for pack in self._packs)

    @property
    def unsynced(self) -> bool:
        """Whether a power loss may take some of it."""
        return bool(self._unsynced)

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Those of the blocks that are here and right. One that is not right is forgotten. No error of the disk gets out."""
        wanted = [cid for cid in cids if cid in self._at]
        return await self._workers.run(self._read, wanted) if wanted else {}

    async def keep(self, blocks: Mapping[Cid, bytes]) -> None:
        """Takes in blocks that belong to their CIDs; those that are here stay. When it returns a kill takes none of them. Raises
        NoSpace, DiskFailed, with none of them taken in."""
        new = {cid: block for cid, block in blocks.items() if cid not in self._at}
        if new:
            await self._workers.run(self._write, new)

    async def sync(self) -> None:
        """Returns when all that was taken in before the call would survive a power loss. Raises NoSpace, DiskFailed; what is not
        safe then is forgotten, to be taken in anew."""
        if self._unsynced:
            await self._workers.run(self._sync)

    async def retain(self, needed: Collection[Cid]) -> None:
        """Nothing but ``needed`` is needed any more: gives back the room of the rest, at once when it is all there is, else when
        that is worth the writing. Raises NoSpace, DiskFailed, with all still here."""
        if self._packs:
            await self._workers.run(self._retain, needed)

    def close(self) -> None:
        """Gives descriptors back. Waits for a write or sync that runs."""
        with self._lock:
            self._closed = True
            self._forget(self._packs)
            self._at = {}

    # On the thread

    def _read(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        with self._lock:
            for cid in cids:
                at = self._at.get(cid)
                if at is None:
                    continue
                try:
                    block = self._disk.pread(at.pack.file, at.offset, at.size)
                    verify(cid, block)
                except BucketfsError:
                    # The Hub may have it; if not, the caller hears that it is lost.
                    del self._at[cid]
                else:
                    found[cid] = block
        return found

    def _write(self, blocks: Mapping[Cid, bytes]) -> None:
        with self._lock:
            if not self._closed:
                self._append(blocks)

    def _append(self, blocks: Mapping[Cid, bytes]) -> None:
        pack = self._writing or self._begin()
        frames = b"".join(_frame(cid, block) for cid, block in blocks.items())
        try:
            self._disk.write(pack.file, frames if pack.size_bytes else MAGIC + frames)
        except BucketfsError:
            # What was written in part ends what is read of the file. The next block goes to a new one.
            self._writing = None
            if not pack.size_bytes:
                self._remove([pack])
            raise
        offset = pack.size_bytes or len(MAGIC)
        for cid, block in blocks.items():
            start = offset + _HEADER_SIZE + len(cid)
            self._at[cid] = _At(pack, start, len(block))
            offset = start + len(block)
        pack.size_bytes = offset
        self._unsynced.add(pack)

    def _begin(self) -> _Pack:
        if self._disk.make_folder(self._folder):
            self._names_synced = False
        number = self._number_max + 1
        file = self._disk.open_append(f"{self._folder}/{number:08d}", exclusive=True)
        self._number_max = number
        pack = self._writing = _Pack(number, file, 0)
        self._packs.append(pack)
        return pack

    def _sync(self) -> None:
        with self._lock:
            packs, self._unsynced = self._unsynced, set()
            try:
                for pack in packs:
                    self._disk.fsync(pack.file)
                self._sync_names()
            except BucketfsError:
                # A second fsync would lie: let them be kept anew, elsewhere.
                self._at = {cid: at for cid, at in self._at.items() if at.pack not in packs}
                self._writing = None
                raise

    def _sync_names(self) -> None:
        self._disk.fsync_folder(self._folder)
        if not self._names_synced:
            self._disk.fsync_folder(os.path.dirname(self._folder))
            self._names_synced = True

    def _retain(self, needed: Collection[Cid]) -> None:
        with self._lock:
            live = {cid: at for cid, at in self._at.items() if cid in needed}
            live_bytes = sum(at.size + _HEADER_SIZE + len(cid) for cid, at in live.items())
            if live and self.size_bytes <= 2 * live_bytes + SPARE_BYTES:
                return
            old, before = list(self._packs), self._at
            # The copies go to a file of their own: those that there are, the one that is written to among them, are removed
            # below.
            self._at, self._writing = {}, None
            try:
                if live and not self._closed:
                    self._copy(live)
            except BucketfsError:
                self._at = before
                self._remove([pack for pack in self._packs if pack not in old])
                raise
            # Only now: the copies and their name are durable, so a power loss meets the old files or the new one.
            self._unsynced = set()
            self._remove(old)

    def _copy(self, live: Mapping[Cid, _At]) -> None:
        """Append these blocks to a file of their own, which is safe when this returns. One that is damaged is left out."""
        waiting: dict[Cid, bytes] = {}
        waiting_bytes = 0
        for count, (cid, at) in enumerate(live.items(), 1):
            with suppress(Corrupt):
                block = self._disk.pread(at.pack.file, at.offset, at.size)
                verify(cid, block)
                waiting[cid] = block
                waiting_bytes += len(block)
            if count == len(live) or waiting_bytes >= COPY_BYTES:
                self._append(waiting)
                waiting, waiting_bytes = {}, 0
        if self._writing is not None:
            self._disk.fsync(self._writing.file)
            self._sync_names()

    def _remove(self, packs: Sequence[_Pack]) -> None:
        self._forget(packs)
        for pack in packs:
            with suppress(NotFound):
                self._disk.unlink(f"{self._folder}/{pack.number:08d}")

    def _forget(self, packs: Sequence[_Pack]) -> None:
        gone = list(packs)
        self._packs = [pack for pack in self._packs if pack not in gone]
        # A sync must not meet a file that is closed.
        self._unsynced.difference_update(gone)
        if self._writing in gone:
            self._writing = None
        for pack in gone:
            self._disk.close(pack.file)

    def _scan(self, pack: _Pack) -> None:
        offset = len(MAGIC)
        while True:
            head = self._disk.pread(pack.file, offset, _HEADER_SIZE + CID_SIZE_MAX)
            if len(head) < _HEADER_SIZE:
                return
            cid_size, size = _SUMMED.unpack_from(head, 4)
            summed = head[4 : _HEADER_SIZE + cid_size]
            start = offset + _HEADER_SIZE + cid_size
            whole = len(summed) == _SUMMED.size + cid_size and start + size <= pack.size_bytes
            if not whole or int.from_bytes(head[:4], "big") != zlib.crc32(summed):
                return
            self._at[Cid(summed[_SUMMED.size :])] = _At(pack, start, size)
            offset = start + size


def _frame(cid: Cid, block: bytes) -> bytes:
    summed = _SUMMED.pack(len(cid), len(block)) + cid
    return zlib.crc32(summed).to_bytes(4, "big") + summed + block
