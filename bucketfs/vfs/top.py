"""The top of an all-buckets mount: a folder whose folders are buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bucketfs.errors import Exists, NotEmpty, NotFound, ReadOnly
from bucketfs.types import ROOT_INODE, Kind
from bucketfs.vfs.facts import Attr, DirEntry
from bucketfs.vfs.handles import OpenDirectory
from bucketfs.vfs.view import DIRECTORY_SIZE, Owner
from bucketfs.vfs.volume import Volume, check_name


class Buckets(Protocol):
    """What making and removing folders at the top of an all-buckets mount means."""

    async def create(self, name: str) -> None:
        """Make a bucket and `VFS.add` its volume. Raises what the Hub answers."""

    async def remove(self, volume: Volume) -> None:
        """Remove an empty bucket at the Hub and `VFS.drop` its volume."""


class Top:
    """The volumes of a mount by the names of their folders. ``buckets`` None: none can be made or removed."""

    def __init__(self, owner: Owner, buckets: Buckets | None) -> None:
        self.volumes: dict[bytes, Volume] = {}
        self._owner = owner
        self._buckets = buckets
        self._started_ns = owner.now_ns()

    def volume(self, name: bytes) -> Volume:
        """The volume of a name; raises NotFound."""
        volume = self.volumes.get(name)
        if volume is None:
            raise NotFound(f"no bucket {name.decode(errors='replace')!r}")
        return volume

    def attr(self) -> Attr:
        """What ``stat`` shows for the top."""
        times = [self._started_ns, *(volume.updated_at_ns for volume in self.volumes.values())]
        return Attr(
            inode=ROOT_INODE,
            generation=0,
            kind=Kind.DIRECTORY,
            mode=0o755,
            nlink=1,
            uid=self._owner.uid,
            gid=self._owner.gid,
            size_bytes=DIRECTORY_SIZE,
            atime_ns=max(times),
            mtime_ns=max(times),
            ctime_ns=max(times),
        )

    def entries(self, opened: OpenDirectory, start: int) -> Sequence[DirEntry]:
        """The folders from position ``start`` on."""
        if opened.names is None or start == 0:
            opened.names = sorted(self.volumes)
        found = [
            (index, self.volumes[name]) for index, name in enumerate(opened.names) if index >= start and name in self.volumes
        ]
        return [DirEntry(opened.names[index], volume.attr(volume.root), index + 1) for index, volume in found]

    async def create(self, name: bytes) -> Volume:
        """Make a bucket; raises Exists, ReadOnly and what the Hub answers."""
        check_name(name)
        if name in self.volumes:
            raise Exists("a bucket of this name exists")
        if self._buckets is None:
            raise ReadOnly("buckets cannot be made here")
        await self._buckets.create(name.decode())
        return self.volume(name)

    async def remove(self, name: bytes) -> None:
        """Remove an empty bucket; raises NotEmpty, ReadOnly and what the Hub answers."""
        volume = self.volume(name)
        if not await volume.lens.settle(lambda: volume.is_empty(volume.root)):
            raise NotEmpty("the bucket is not empty")
        if self._buckets is None:
            raise ReadOnly("buckets cannot be removed here")
        await self._buckets.remove(volume)
