"""Which folders are mirrored with a bucket now, by any process of this user, and whether one more may be.

A mirrored folder inside another one that is mirrored with the same bucket puts the bucket into itself: it grows by a level in each
round. So does a chain of buckets that lead into each other (``one`` in ``two`` here, ``two`` in ``one`` there). Each process that
mirrors holds a lock on a file that says what it mirrors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bucketfs.config import Paths
from bucketfs.daemon.host.locked_note import noted_path, path_note, read_note, write_note
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import Busy, Usage

NAME = "watched"
LOOKED_AT_S = 5.0
"""Longer than another process needs to find out whether our file is locked."""


@dataclass(frozen=True, slots=True)
class MirroredFolder:
    """A folder (absolute, without symlinks) and the key of the bucket it is mirrored with."""

    folder: Path
    bucket: str

    def lies_in(self, other: MirroredFolder) -> bool:
        """Whether this folder is somewhere below the other one."""
        return self.folder != other.folder and self.folder.is_relative_to(other.folder)


def mirrored_folders(paths: Paths) -> list[MirroredFolder]:
    """All that are mirrored now. Reads a small file for each that ever was."""
    disk, top = Disk(), paths.state / "watch"
    names = disk.list_folder(top) if top.is_dir() else []
    notes = [note for name in names if (note := read_note(disk, top / name / NAME)) is not None]
    return [MirroredFolder(noted_path(note["folder"]), note["bucket"]) for note in notes]


def mirror_above(paths: Paths, path: Path) -> Path | None:
    """The mirrored folder that ``path`` (absolute, without symlinks) lies in."""
    return next((one.folder for one in mirrored_folders(paths) if path.is_relative_to(one.folder)), None)


@contextmanager
def registered_mirror(paths: Paths, state_folder: Path, mine: MirroredFolder) -> Iterator[None]:
    """Registers ``mine`` for as long as the block lasts; ``state_folder`` is the mirror's own. Raises Usage when a bucket would get
    into itself."""
    disk = Disk()
    # Written before it is locked: with the lock, what an earlier run has left in the file would count.
    file = disk.open(state_folder / NAME, create=True)
    try:
        write_note(disk, file, {"folder": path_note(mine.folder), "bucket": mine.bucket})
    finally:
        disk.close(file)
    lock = _locked(disk, state_folder / NAME)
    try:
        # Registered before the others are read: of two that begin at once, at least one sees the other.
        other = mirror_closing_ring(mine, [one for one in mirrored_folders(paths) if one.folder != mine.folder])
        if other is not None:
            inner, outer = (mine.folder, other.folder) if mine.lies_in(other) else (other.folder, mine.folder)
            raise Usage(
                f"{inner} lies in {outer}, which is being watched too: the bucket would be put into itself",
                hint="choose a folder beside it, or end the other 'bucketfs buck watch'",
            )
        yield
    finally:
        disk.close(lock)


def mirror_closing_ring(mine: MirroredFolder, others: Sequence[MirroredFolder]) -> MirroredFolder | None:
    """The mirror with which ``mine`` would close a ring of buckets that lie in each other, or None. Pure."""
    folders = [mine, *others]
    inside = [(outer.bucket, inner.bucket) for outer in folders for inner in folders if inner.lies_in(outer)]
    for other in others:
        if mine.lies_in(other):
            start, goal = mine.bucket, other.bucket
        elif other.lies_in(mine):
            start, goal = other.bucket, mine.bucket
        else:
            continue
        reached, unvisited = {start}, [start]
        while unvisited:
            bucket = unvisited.pop()
            found = {below for above, below in inside if above == bucket} - reached
            reached |= found
            unvisited += found
        if goal in reached:
            return other
    return None


def _locked(disk: Disk, path: Path) -> DiskFile:
    until_s = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            return disk.lock_file(path)
        except Busy:
            # Another process holds it for the moment in which it looks.
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
