"""A process that dies at its n-th act on disk, state or Hub: from then on nothing it tries has any effect."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.memory_remote import MemoryRemote

from bucketfs.client import PutCounts
from bucketfs.mirror import MirrorState
from bucketfs.remote import Look
from bucketfs.transfer import local_fs as folder
from bucketfs.types import Cid, UploadId

CALLS = (
    *("mkdir", "rmdir", "unlink", "replace", "symlink"),
    *("chmod", "fchmod", "chown", "utime", "pwrite", "ftruncate", "fsync"),
)
"""The system calls that change something on the disk; besides, an open that creates."""


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


def mortal(life: Life, act: Callable[..., Any]) -> Callable[..., Any]:
    def done(*arguments: Any, **options: Any) -> Any:
        life.step()
        return act(*arguments, **options)

    return done


class MortalOs:
    """The module ``os`` whose calls that change something are acts."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return mortal(self._life, found) if name in CALLS else found

    def open(self, path: bytes, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            self._life.step()
        return os.open(path, flags, *arguments, **options)


@contextmanager
def living(life: Life) -> Iterator[None]:
    """Everything that a mirror does to the disk is an act of this life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "os", MortalOs(life))
        patch.setattr(MirrorState, "begin", mortal(life, MirrorState.begin))
        patch.setattr(MirrorState, "commit", mortal(life, MirrorState.commit))
        yield


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

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutCounts:
        self._life.step()
        counts = await self._remote.put(batches, upload)
        self._life.step()
        return counts

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        self._life.step()
        await self._remote.swap(expected, new, upload)
        self._life.step()
