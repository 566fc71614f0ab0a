"""The kinds of Op: one intention of the user, one journal record.

Paths are relative to the bucket's root, components joined by ``/``, ``""`` being the root itself; they are text because every
name is valid UTF-8 before it gets here. A path means what it meant when the op was recorded: replaying the ops in order, on
the base they were recorded on, gives the overlay back. ``time_ns`` becomes the ctime of what the op touches (and the mtime of
directories whose entries change), in nanoseconds since 1970. ``inode`` keeps the number that the kernel was told.

``Place`` and the creating ops are also the vocabulary of a checkpoint, which is a list of ops that builds a whole overlay on a
base: it is how what is still dirty after a push or a rebase is written down anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.types import Cid, DraftId, Inode

NOBODY = -1
"""An owner, or group, that no node says (see `SetAttributes`)."""


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
    """Attributes that change; ``None`` leaves one as it is. A uid or gid of `NOBODY` makes it that of the mount again: no node says
    one."""

    path: str
    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None
    time_ns: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """The figures of what is at ``path`` that no bucket carries: its atime, the mtime that it shows when its node says none, how
    much of a file is no hole (of what it rests on; None: not known), and its ctime. They belong to this machine, so this is no
    change that a push would send."""

    path: str
    atime_ns: int
    fallback_ns: int
    held_bytes: int | None
    time_ns: int


@dataclass(frozen=True, slots=True)
class SetContent:
    """The bytes of a file as of now, as a change to what earlier records of the file said.

    ``draft`` names the draft file that holds the bytes of ``extents`` (pairs of start and stop offset, ascending), which are
    added to those that earlier records gave this draft. Below the draft lies what the file held before the draft was begun
    (an older draft, or the base), visible only below ``lower_limit_bytes``; ranges covered by neither read as zeros.
    ``size_bytes`` is the file's length.
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
    """The Hub is about to be asked to make ``root`` the bucket's root. When the answer is lost and the Hub's root turns out to be
    this one, every difference to the base was made here, and none of it is another client's."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """The Hub took ``root``, a part of what is here; the base of this journal is still an older one. What another client did since
    is told by comparing with this root."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Left:
    """``root`` was the bucket's root before the base, and the Hub said then that the bucket was changed at ``time_ns``. A Hub that
    shows both together again did not move on: it went back, and lacks what came after."""

    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides had changed ``original`` when the Hub's root ``root`` came in at ``time_ns``; one version of it stands at ``copy``
    since: ours when ``ours``, else the Hub's. No change by itself: it is what the user is told, until it is settled."""

    copy: str
    original: str
    ours: bool
    root: Cid
    time_ns: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The next ``count`` changes are quarantined: a block that they were made on is lost, so they are kept and never applied. They
    were made when the base was ``root``, or later."""

    root: Cid
    count: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A power loss took bytes of the file at ``path`` that had not been synced. They may have been sent: a root was proposed from
    here that has it at ``was``. No change by itself."""

    path: str
    was: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The conflict whose copy is ``copy`` is settled; the files stand as the user wants them."""

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
    | Settled
    | Lost
    | Quarantined
)


@dataclass(frozen=True, slots=True)
class Seal:
    """Bytes ``[start, stop)`` of a draft file are durable and never change again. No change of the user's, but the journal's own
    word on what it keeps: ``sums`` has the CRC-32 of each block of 262,144 bytes, big-endian. The last block may be shorter."""

    draft: DraftId
    start: int
    stop: int
    sums: bytes


Record = Op | Seal
"""What a journal holds."""
