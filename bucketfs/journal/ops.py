"""The kinds of Op: one intention of the user, one journal record.

Paths are relative to the bucket's root, components joined by ``/``; ``""`` is the root. They are text, because every name was
checked to be UTF-8 before. A path means what it meant when the op was recorded: replaying the ops in order, on the base they were
recorded on, gives the overlay back. ``time_ns`` (nanoseconds since 1970) becomes the ctime of what the op touches, and the mtime
of directories whose entries change. ``inode`` is the number that the kernel was told.

A checkpoint is a list of ops that builds a whole overlay on a base. After a push or a rebase it records what is still dirty;
``Place`` and ``Stamp`` are there for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.types import Cid, DraftId, Inode

NO_OWNER = -1
"""A uid or gid: the node shall name none, so that the file belongs to the mount's user again (see `SetAttributes`)."""


@dataclass(frozen=True, slots=True)
class Create:
    """An empty regular file, at a path where nothing is."""

    path: str
    inode: Inode
    mode: int
    uid: int | None
    gid: int | None
    mtime_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """An empty directory, at a path where nothing is."""

    path: str
    inode: Inode
    mode: int
    uid: int | None
    gid: int | None
    mtime_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """A symbolic link, at a path where nothing is. ``target`` is text: a target that is not UTF-8 is refused."""

    path: str
    inode: Inode
    target: str
    uid: int | None
    gid: int | None
    mtime_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """An existing DAG of the base (or of a root once agreed on) appears at a path where nothing is."""

    path: str
    inode: Inode
    cid: Cid
    tsize: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Attributes that change; ``None`` leaves one as it is, `NO_OWNER` takes a uid or gid away."""

    path: str
    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None
    time_ns: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """What no bucket carries of the file at ``path``, so that no push sends it: its atime, the mtime shown when its node names
    none (``fallback_ns``), how many bytes of the content below its draft are no hole (``held_bytes``; None: not known), and its
    ctime."""

    path: str
    atime_ns: int
    fallback_ns: int
    held_bytes: int | None
    time_ns: int


@dataclass(frozen=True, slots=True)
class SetContent:
    """The bytes of a file as of now, as a change to what earlier records of the file said.

    ``draft`` names the draft file with the bytes of ``extents`` (pairs of start and stop offset, ascending), which add to those of
    earlier records. Below the draft lies what the file held before (an older draft, or the base), visible only below
    ``lower_limit_bytes``; ranges covered by neither read as zeros. ``size_bytes`` is the file's length.
    """

    path: str
    draft: DraftId
    extents: tuple[tuple[int, int], ...]
    lower_limit_bytes: int
    size_bytes: int
    mtime_ns: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Rename:
    """``old`` becomes ``new``; what stood at ``new`` is gone, or stands at ``old`` when ``exchange``."""

    old: str
    new: str
    exchange: bool
    time_ns: int


@dataclass(frozen=True, slots=True)
class Remove:
    """The file, symlink or (empty, or checkpointed) directory at ``path`` is gone."""

    path: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """The Hub is about to be asked to make ``root`` the bucket's root. If the answer is lost and the Hub's root is this one later,
    every difference to the base was made here, and none by another client."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """The Hub took ``root``, a part of the changes here, while the base of this journal is still an older root. Changes of other
    clients since are found by comparing with this root."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Left:
    """``root`` was the bucket's root before the base, with ``time_ns`` as the Hub's time of its last change. A Hub that shows
    both again was restored from a backup: it lacks what came after."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides had changed ``original`` when the Hub's root ``root`` came in at ``time_ns``; since then ``copy`` holds one
    version: the local one when ``ours``, else the Hub's. Changes nothing; the user is told until the conflict is resolved."""

    copy: str
    original: str
    ours: bool
    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The next ``count`` changes, made on the base ``root`` or later, are quarantined: a block that they were made on is lost, so
    they are kept and never applied."""

    root: Cid
    count: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A power loss took bytes of the file at ``path`` that had not been synced. They may have been sent before, in a proposed
    root that has the file at ``was``. Changes nothing."""

    path: str
    was: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """The conflict whose copy is ``copy`` is resolved: the files stand as the user wants them."""

    copy: str
    time_ns: int


Op = (
    Create
    | MakeDirectory
    | MakeSymlink
    | Place
    | SetAttributes
    | Stamp
    | SetContent
    | Rename
    | Remove
    | Proposed
    | Arrived
    | Left
    | Conflict
    | Resolved
    | Lost
    | Quarantined
)


@dataclass(frozen=True, slots=True)
class Seal:
    """Bytes ``[start, stop)`` of a draft file are durable and never change again. The journal's own record, no change of the
    user's: ``sums`` has the CRC-32 of each block of 262,144 bytes, big-endian; the last block may be shorter."""

    draft: DraftId
    start: int
    stop: int
    sums: bytes


Record = Op | Seal
"""What a journal holds."""
