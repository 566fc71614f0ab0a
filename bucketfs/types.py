"""Identifiers and frozen values that every room shares.

Text forms of identifiers stay at the edges (command line, wire texts); inside, a ``Cid`` or a ``ThreadId`` is bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, TypeVar

Cid = NewType("Cid", bytes)
"""A binary CID: 36 bytes for a sha2-256 CIDv1, 34 for a CIDv0, longer for an identity CID."""

BucketKey = NewType("BucketKey", str)
"""The key of a bucket: the text of its IPNS name, ``bafzbei…``."""

ThreadId = NewType("ThreadId", bytes)
"""A binary thread ID (version, variant, random bytes)."""

Inode = NewType("Inode", int)
FileHandle = NewType("FileHandle", int)
DraftId = NewType("DraftId", int)
UploadId = NewType("UploadId", bytes)

ROOT_INODE = Inode(1)

T = TypeVar("T")
Steps = Generator[Sequence[Cid], Mapping[Cid, bytes], T]
"""A computation over blocks that does no I/O.

It yields the CIDs it wants next, is sent the blocks by CID, and returns its result. The driver decides where blocks come from, how
they are fetched and whether that awaits; it sends every block asked for, or throws an error in.
"""


class Kind(enum.Enum):
    """What a name stands for."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Link:
    """Where a DAG begins: its CID and its cumulative size in bytes (Tsize: a hint, see docs/format.md)."""

    cid: Cid
    tsize: int


@dataclass(frozen=True, slots=True)
class NodeAttributes:
    """The attributes that a UnixFS node itself carries. ``None`` means that the node does not say.

    ``mode`` holds the low 12 bits only; ``mtime_ns`` counts nanoseconds since 1970 and may be negative.
    """

    mode: int | None = None
    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None


NO_ATTRIBUTES = NodeAttributes()


@dataclass(frozen=True, slots=True)
class Caller:
    """The process behind a request of the kernel."""

    uid: int
    gid: int
