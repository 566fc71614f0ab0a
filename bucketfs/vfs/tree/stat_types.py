"""The frozen facts that the VFS and its callers exchange."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bucketfs.types import FileHandle, Inode, Kind


@dataclass(frozen=True, slots=True)
class Attr:
    """What ``stat`` shows. Times are nanoseconds since 1970, ``blocks`` counts units of 512 bytes. ``settled``: the kernel may
    remember it."""

    inode: Inode
    kind: Kind
    mode: int
    nlink: int
    uid: int
    gid: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    settled: bool = True
    hole_bytes: int = 0

    @property
    def blocks(self) -> int:
        """What is there, holes left out, in units of 512 bytes, as ``st_blocks`` counts."""
        return (self.size_bytes - self.hole_bytes + 511) // 512


@dataclass(frozen=True, slots=True)
class SetAttr:
    """The attributes that a ``setattr`` changes; ``None`` leaves one untouched. A ctime comes from the kernel, which keeps that of
    regular files itself while it caches writes to them."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None


class RenameFlags(enum.IntFlag):
    """The flags of renameat2(2)."""

    NONE = 0
    NOREPLACE = 1
    EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file. ``keep_cache``: pages the kernel still holds from an earlier open are right."""

    handle: FileHandle
    keep_cache: bool


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name of a directory listing; ``next_id`` is where a later ``readdir`` goes on after it."""

    name: bytes
    attr: Attr
    next_id: int


@dataclass(frozen=True, slots=True)
class StatFs:
    """What ``statvfs`` shows; ``blocks`` and ``blocks_free`` count units of ``block_size`` bytes."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_max: int = 255


@dataclass(frozen=True, slots=True)
class EntryGone:
    """What the kernel may hold at a name is not there any more; something else may be. Programs that watch the inode hear that
    it was deleted, as they do when a new file is renamed over it."""

    parent: Inode
    name: bytes
    inode: Inode


@dataclass(frozen=True, slots=True)
class EntryChanged:
    """A name stands for something else now, or exists now where it did not."""

    parent: Inode
    name: bytes


@dataclass(frozen=True, slots=True)
class AttributesChanged:
    """The attributes of an inode (and, for a directory, its listing) are not what the kernel was told."""

    inode: Inode


@dataclass(frozen=True, slots=True)
class ContentChanged:
    """Bytes that the kernel holds of a file, and attributes, may not be what they are here."""

    inode: Inode


@dataclass(frozen=True, slots=True)
class ContentLost:
    """As `ContentChanged`, after a write failed; and the kernel must take the length that the file has here, which takes more than
    an announcement (see `bucketfs.vfs.write_failures`)."""

    inode: Inode


Invalidation = EntryGone | EntryChanged | AttributesChanged | ContentChanged | ContentLost
