"""Which folders are mirrored with a bucket now, by any process of this user, and whether one more may be.

A folder that is mirrored with a bucket and lies in another one that is mirrored with the same bucket puts the bucket into itself:
it grows by a level in each round. So does a chain of buckets that lead into each other (``one`` in ``two`` here, ``two`` in ``one``
there). Each process that mirrors keeps a lock on a file that says what; a file without a lock says nothing any more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bucketfs.config import Paths
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import Busy, NotFound, Usage

NAME = "watched"
LOOKED_AT_S = 5.0
"""Longer than somebody else needs to find out whether our file is locked."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder (absolute, without symlinks) and the key of the bucket it is mirrored with."""

    folder: Path
    bucket: str

    def lies_in(self, other: Watched) -> bool:
        """Whether this folder is somewhere below the other one."""
        return self.folder != other.folder and self.folder.is_relative_to(other.folder)


def watched(paths: Paths) -> list[Watched]:
    """All that are mirrored now. Reads a small file for each that ever was."""
    disk = Disk()
    top = paths.state / "watch"
    names = disk.list_folder(top) if top.is_dir() else []
    return [found for name in names if (found := _living(disk, top / name / NAME)) is not None]


def watched_above(paths: Paths, path: Path) -> Path | None:
    """The mirrored folder that ``path`` (absolute, without symlinks) lies in."""
    return next((one.folder for one in watched(paths) if path.is_relative_to(one.folder)), None)


@contextmanager
def announced(paths: Paths, place: Path, mine: Watched) -> Iterator[None]:
    """Says, as long as it lasts, that ``mine`` is mirrored; ``place`` is the folder of its state, which is this process's alone.
    Raises Usage when a bucket would get into itself."""
    disk = Disk()
    file = disk.open(place / NAME, create=True)
    try:
        disk.truncate(file, 0)
        disk.pwrite(file, 0, json.dumps({"folder": os.fsencode(mine.folder).hex(), "bucket": mine.bucket}).encode())
    finally:
        disk.close(file)
    lock = _locked(disk, place / NAME)
    try:
        # First said, then asked: of two that begin at once, at least one sees the other.
        other = into_itself(mine, [one for one in watched(paths) if one.folder != mine.folder])
        if other is not None:
            inner, outer = (mine.folder, other.folder) if mine.lies_in(other) else (other.folder, mine.folder)
            raise Usage(
                f"{inner} lies in {outer}, which is being watched too: the bucket would be put into itself",
                hint="choose a folder beside it, or end the other 'bucketfs buck watch'",
            )
        yield
    finally:
        disk.close(lock)


def into_itself(mine: Watched, others: Sequence[Watched]) -> Watched | None:
    """The folder with which ``mine`` would close a ring of buckets that lie in each other, or None. Pure."""
    folders = [mine, *others]
    inside = [(outer.bucket, inner.bucket) for outer in folders for inner in folders if inner.lies_in(outer)]
    for other in others:
        if mine.lies_in(other):
            start, goal = mine.bucket, other.bucket
        elif other.lies_in(mine):
            start, goal = other.bucket, mine.bucket
        else:
            continue
        reached, ahead = {start}, [start]
        while ahead:
            here = ahead.pop()
            found = {below for above, below in inside if above == here} - reached
            reached |= found
            ahead += found
        if goal in reached:
            return other
    return None


def _living(disk: Disk, file: Path) -> Watched | None:
    try:
        if not disk.is_locked(file):
            return None
    except NotFound:
        return None
    said = json.loads(disk.read_file(file))
    return Watched(Path(os.fsdecode(bytes.fromhex(said["folder"]))), said["bucket"])


def _locked(disk: Disk, path: Path) -> DiskFile:
    until_s = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            return disk.lock_file(path)
        except Busy:
            # Only for the moment in which somebody looks.
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
