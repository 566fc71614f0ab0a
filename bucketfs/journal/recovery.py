"""What is found when a journal is opened: which segment counts, which bytes are set aside, which drafts are there.

Nothing is deleted here. What cannot be used is moved to ``set-aside/`` and named in the ``Recovery``, since it may be all
that is left of a user's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bucketfs.disk import Disk, PathLike
from bucketfs.errors import BucketfsError
from bucketfs.journal.ops import Create, MakeDirectory, MakeSymlink, Op, Place, SetContent
from bucketfs.journal.quarantine import Change, Quarantine, take_quarantined
from bucketfs.journal.state import ScannedSegment, scan, split_by_backing
from bucketfs.types import Cid, DraftId, Inode

_SEGMENT = re.compile(r"segment-(\d{8})")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an opened journal remembers.

    ``ops`` on ``base`` give the overlay; ``quarantine`` holds those that are kept and not applied. ``set_aside`` names the files
    that hold what could not be used. ``unbacked`` are content records whose bytes a power loss took; they are not among ``ops`` and
    no sync had acknowledged them. ``unbacked_at`` says of each how many of the ``ops`` came before it.
    """

    base: Cid | None
    ops: list[Op]
    quarantine: Quarantine
    set_aside: list[str]
    unbacked: list[SetContent]
    unbacked_at: list[int]


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """The segment that counts (number 0 when none does), the other numbers on disk, and what was set aside."""

    number: int
    scanned: ScannedSegment
    older: list[int]
    number_max: int
    set_aside: list[str]


def segment_path(folder: str, number: int) -> str:
    """Where segment ``number`` is."""
    return f"{folder}/segment-{number:08d}"


def find_segment(disk: Disk, folder: str) -> FoundSegment:
    """Reads the segments, newest first, down to the one that counts. Blocks. Unsupported when a newer bucketfs wrote one."""
    numbers = sorted((int(name[1]) for name in map(_SEGMENT.fullmatch, disk.list_folder(folder)) if name), reverse=True)
    set_aside: list[str] = []
    for at, number in enumerate(numbers):
        path = segment_path(folder, number)
        data = disk.read_file(path)
        scanned = scan(data)
        if scanned.head_complete:
            rest = data[scanned.good_size :]
            if rest:
                _cut_tail(disk, folder, number, scanned.good_size, rest, set_aside)
            return FoundSegment(number, scanned, numbers[at + 1 :], numbers[0], set_aside)
        # A head without its end is of a checkpoint that a crash cut short; the segment before it still counts. Zeros alone are a
        # length that the file system had written without the bytes.
        if data.strip(b"\0"):
            set_aside.append(_move_aside(disk, folder, path))
        else:
            disk.unlink(path)
    return FoundSegment(0, ScannedSegment(), [], numbers[0] if numbers else 0, set_aside)


def recovery_of(found: FoundSegment, draft_sizes: Mapping[DraftId, int]) -> Recovery:
    """The recovery that ``found`` amounts to, given the sizes of the draft files."""
    # Quarantined changes are kept whatever is left of their bytes: the export says what of them is lost.
    replayed, quarantine = take_quarantined(found.scanned.ops)
    ops, unbacked = split_by_backing(replayed, draft_sizes, found.scanned.seals)
    base = found.scanned.header.base if found.scanned.header else None
    return Recovery(base, ops, quarantine, found.set_aside, unbacked, _places(replayed, unbacked))


def _places(ops: Sequence[Op], left_out: Sequence[Op]) -> list[int]:
    """How many ops that were not left out stand before each that was."""
    places: list[int] = []
    for at, op in enumerate(ops):
        if len(places) < len(left_out) and op is left_out[len(places)]:
            places.append(at - len(places))
    return places


def _readable(disk: Disk, folder: PathLike) -> Iterator[ScannedSegment]:
    """The segments of a journal that is not open, newest first, as far as they can be read. Changes nothing, raises nothing.
    Blocks."""
    try:
        names = sorted((name for name in disk.list_folder(folder) if _SEGMENT.fullmatch(name)), reverse=True)
    except BucketfsError:
        return
    for name in names:
        with suppress(BucketfsError):
            yield scan(disk.read_file(f"{folder}/{name}"))


def inodes_named(disk: Disk, folder: PathLike) -> set[Inode]:
    """The inode numbers that the journal in ``folder`` names, before it is opened: a mount gives numbers out before all its
    journals are open. What cannot be read names none; its opening will say why. Blocks."""
    ops = (op for segment in _readable(disk, folder) for op in segment.ops)
    return {op.inode for op in ops if isinstance(op, Create | MakeDirectory | MakeSymlink | Place)}


@dataclass(frozen=True, slots=True)
class Glance:
    """What a journal that is not open holds: its base, and how many changes."""

    base: Cid | None
    changes: int


def glance(disk: Disk, folder: PathLike) -> Glance:
    """Look into the journal in ``folder`` without opening it. Where nothing can be read there is no base and no change. Blocks."""
    for found in _readable(disk, folder):
        if found.head_complete:
            base = found.header.base if found.header is not None else None
            return Glance(base, sum(isinstance(op, Change) for op in found.ops))
    return Glance(None, 0)


def move_drafts_aside(disk: Disk, folder: str, paths: list[str]) -> list[str]:
    """Moves orphaned drafts beside what was set aside, whose records may have named them. Blocks."""
    return [_move_aside(disk, folder, path) for path in paths]


def _cut_tail(disk: Disk, folder: str, number: int, size: int, rest: bytes, set_aside: list[str]) -> None:
    # Zeros are what a file system shows for a length it had written and bytes it had not: nothing worth keeping.
    if rest.strip(b"\0"):
        _make_aside(disk, folder)
        kept = f"{folder}/set-aside/segment-{number:08d}-from-{size}"
        disk.replace_file(kept, rest)
        set_aside.append(kept)
    # Only now, when the copy is durable. Appends go behind what is cut here, so no later reader meets the torn frame.
    file = disk.open(segment_path(folder, number))
    try:
        disk.truncate(file, size)
        disk.fsync(file)
    finally:
        disk.close(file)


def _move_aside(disk: Disk, folder: str, path: str) -> str:
    _make_aside(disk, folder)
    kept = f"{folder}/set-aside/{path.rpartition('/')[2]}"
    disk.rename(path, kept)
    return kept


def _make_aside(disk: Disk, folder: str) -> None:
    if disk.make_folder(f"{folder}/set-aside"):
        disk.fsync_folder(folder)
