"""A process that dies at its n-th act on disk, state or Hub: from then on nothing it tries has any effect."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.memory_remote import MemoryRemote

from bucketfs.client import PutResult
from bucketfs.mirror import MirrorState
from bucketfs.remote import Look
from bucketfs.types import Cid, UploadId


class Killed(BaseException):
    """What a kill is to a test."""


@dataclass
class Life:
    """``left`` acts until the end. None: for ever."""

    left: int | None = None
    acts: int = 0

    def step(self) -> None:
        self.acts += 1
        if self.left is not None:
            if self.left <= 0:
                raise Killed
            self.left -= 1


class WatchedCalls:
    """The system calls of `os`; ``before`` hears the name and the path (or descriptor) of each before it is made."""

    def __init__(self, before: Callable[[str, bytes | int], None]) -> None:
        self._before = before

    def open(self, path: bytes, flags: int, mode: int, /) -> int:
        self._before("open", path)
        return os.open(path, flags, mode)

    def pwrite(self, file: int, data: memoryview, offset: int, /) -> int:
        self._before("pwrite", file)
        return os.pwrite(file, data, offset)

    def ftruncate(self, file: int, length: int, /) -> None:
        self._before("ftruncate", file)
        os.ftruncate(file, length)

    def fsync(self, file: int, /) -> None:
        self._before("fsync", file)
        os.fsync(file)

    def fchmod(self, file: int, mode: int, /) -> None:
        self._before("fchmod", file)
        os.fchmod(file, mode)

    def chmod(self, path: bytes, mode: int, /) -> None:
        self._before("chmod", path)
        os.chmod(path, mode)

    def chown(self, path: bytes | int, uid: int, gid: int, /) -> None:
        self._before("chown", path)
        os.chown(path, uid, gid)

    def utime(self, path: bytes | int, /, *, ns: tuple[int, int], follow_symlinks: bool = True) -> None:
        self._before("utime", path)
        os.utime(path, ns=ns, follow_symlinks=follow_symlinks)

    def symlink(self, target: bytes, path: bytes, /) -> None:
        self._before("symlink", path)
        os.symlink(target, path)

    def mkdir(self, path: bytes, mode: int, /) -> None:
        self._before("mkdir", path)
        os.mkdir(path, mode)

    def rmdir(self, path: bytes, /) -> None:
        self._before("rmdir", path)
        os.rmdir(path)

    def unlink(self, path: bytes, /) -> None:
        self._before("unlink", path)
        os.unlink(path)

    def replace(self, old: bytes, new: bytes, /) -> None:
        self._before("replace", new)
        os.replace(old, new)


class MortalState(MirrorState):
    """A state whose transactions are acts. ``committed`` is called after each."""

    def __init__(self, file: Path, life: Life, committed: Callable[[], None]) -> None:
        self._life = life
        self._committed = committed
        super().__init__(file)

    def begin(self) -> None:
        self._life.step()
        super().begin()

    def commit(self) -> None:
        self._life.step()
        super().commit()
        self._committed()


class MortalRemote:
    """A Remote whose calls are acts."""

    def __init__(self, remote: MemoryRemote, life: Life) -> None:
        self._remote = remote
        self._life = life

    async def root(self) -> Cid:
        self._life.step()
        return await self._remote.root()

    async def look(self) -> Look:
        self._life.step()
        return await self._remote.look()

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        self._life.step()
        return await self._remote.blocks(cids)

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        self._life.step()
        return await self._remote.missing(cids, upload)

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        self._life.step()
        counts = await self._remote.put(batches, upload)
        self._life.step()
        return counts

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        self._life.step()
        await self._remote.swap(expected, new, upload)
        self._life.step()
