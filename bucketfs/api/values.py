"""What the API returns: frozen values with text for identifiers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bucketfs.client import BucketInfo
from bucketfs.dag import NodeInfo, cid_text
from bucketfs.keys import thread_text
from bucketfs.sync import PathEvent
from bucketfs.transfer import Figures
from bucketfs.types import Link

PathKind = Literal["file", "directory", "symlink"]
ChangeKind = Literal["added", "changed", "removed", "attributes", "renamed"]


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """What a Hub says of a bucket.

    ``key`` is the name that never changes, ``root`` the CID of the top directory now, ``thread`` the database that the
    bucket is in, ``owner`` a public key or empty. Times are nanoseconds since 1970.
    """

    name: str
    key: str
    root: str
    thread: str
    owner: str
    private: bool
    created_at_ns: int
    updated_at_ns: int


@dataclass(frozen=True, slots=True)
class BucketEntry:
    """A file, directory or symlink of a bucket.

    ``path`` is relative to the bucket's top. ``size_bytes`` is the length of a file, or of a symlink's target; 0 for a
    directory; None when it is not known (private buckets). ``mode`` has 12 bits; ``mtime_ns`` is nanoseconds since 1970;
    both are None when whoever wrote the entry left them out. ``target`` is what a symlink leads to.
    """

    path: str
    kind: PathKind
    cid: str
    size_bytes: int | None
    mode: int | None = None
    mtime_ns: int | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """Something that a transfer left as it is, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a push or pull did.

    Counts are of things that were written; ``unchanged`` were equal already. ``sent_blocks`` and ``sent_bytes`` went to the
    Hub (0 for a pull). ``root`` is the CID of the bucket's top directory that was made, or read.
    """

    files: int
    directories: int
    symlinks: int
    unchanged: int
    removed: int
    sent_blocks: int
    sent_bytes: int
    root: str
    skipped: tuple[SkippedPath, ...]


@dataclass(frozen=True, slots=True)
class BucketChange:
    """What became of one path between two roots. ``old_path`` is set when ``kind`` is ``"renamed"``. A directory that
    came, went or was renamed is one change, with all that is in it."""

    kind: ChangeKind
    path: str
    old_path: str = ""


@dataclass(frozen=True, slots=True)
class BucketUpdate:
    """One step of a bucket from the root ``previous`` to ``root`` (CIDs), with what changed, in the order of paths."""

    previous: str
    root: str
    changes: tuple[BucketChange, ...]


def record_of(info: BucketInfo) -> BucketRecord:
    """A bucket as the API shows it."""
    return BucketRecord(
        info.name,
        str(info.key),
        cid_text(info.root),
        thread_text(info.thread),
        info.owner,
        info.private,
        info.created_at_ns,
        info.updated_at_ns,
    )


def entry_of(path: str, link: Link, info: NodeInfo) -> BucketEntry:
    """An entry by its root block."""
    target = None if info.target is None else info.target.decode(errors="surrogateescape")
    attributes = info.attributes
    return BucketEntry(
        path, info.kind.value, cid_text(link.cid), info.size_bytes, attributes.mode, attributes.mtime_ns, target
    )


def report_of(figures: Figures) -> TransferReport:
    """The figures of a transfer."""
    return TransferReport(
        files=figures.files,
        directories=figures.folders,
        symlinks=figures.symlinks,
        unchanged=figures.unchanged,
        removed=figures.removed,
        sent_blocks=figures.sent.blocks_sent,
        sent_bytes=figures.sent.bytes_sent,
        root="" if figures.root is None else cid_text(figures.root),
        skipped=tuple(SkippedPath(skipped.path, skipped.reason) for skipped in figures.skipped),
    )


def change_of(event: PathEvent) -> BucketChange:
    """One difference of two roots."""
    return BucketChange(event.kind.value, event.path, event.was)
