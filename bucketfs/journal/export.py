"""Writing quarantined changes into a folder of the user's.

::

    changes.txt     every change in its order, and which bytes of which file are lost
    files/…         the files that were written to, at their paths in the bucket; lost bytes are holes
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from bucketfs.disk import Disk, PathLike
from bucketfs.errors import Corrupt, Exists, NotFound
from bucketfs.journal.drafts import Drafts
from bucketfs.journal.extents import Interval
from bucketfs.journal.quarantine import QuarantinedFile, files_of, in_words, time_of
from bucketfs.ops import Op

COPY_BYTES = 1024 * 1024


def export_changes(disk: Disk, drafts: Drafts, changes: Iterable[Op], folder: PathLike) -> int:
    """Write ``changes`` into ``folder``, which is made; how many files that gave. When it returns all of it would survive a power
    loss. Blocks. Raises Exists when the folder is there and not empty, NoSpace, DiskFailed."""
    top = os.fspath(folder)
    if not disk.make_folder(top) and disk.list_folder(top):
        raise Exists(f"{top} is not empty", hint="give a new folder")
    changes = list(changes)
    files = files_of(changes)
    folders = [top]
    lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(time_of(op) / 1e9))} {in_words(op)}" for op in changes]
    for path, file in files.items():
        place = _make_parents(disk, top, path, folders)
        damaged = _write(disk, drafts, file, place)
        lines += [f"bytes {start} to {stop} of {path!r} are lost" for start, stop in file.lost()]
        lines += [f"bytes {start} to {stop} of {path!r} were damaged by this disk" for start, stop in damaged]
    for made in reversed(folders):
        disk.fsync_folder(made)
    # Last, and durably: where this file stands, all others are whole.
    disk.replace_file(f"{top}/changes.txt", "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    disk.fsync_folder(os.path.dirname(top) or "/")
    return len(files)


def _make_parents(disk: Disk, top: str, path: str, folders: list[str]) -> str:
    """Make the folders that ``path`` stands in; where the file goes."""
    at = top
    for name in ("files", *path.split("/")[:-1]):
        at = f"{at}/{name}"
        if disk.make_folder(at):
            folders.append(at)
    return f"{at}/{path.rpartition('/')[2]}"


def _write(disk: Disk, drafts: Drafts, file: QuarantinedFile, place: str) -> list[Interval]:
    """Write what is left of a file; the bytes that cannot be read."""
    damaged: list[Interval] = []
    target = disk.open(place, exclusive=True)
    try:
        disk.truncate(target, file.size_bytes)
        for draft, interval in file.parts():
            for start, stop in _in_steps(interval):
                try:
                    data = drafts.get(draft).read(start, stop - start)
                except (Corrupt, NotFound):
                    data = b""
                disk.pwrite(target, start, data)
                if len(data) < stop - start:
                    damaged.append((start + len(data), stop))
        disk.fsync(target)
    finally:
        disk.close(target)
    return damaged


def _in_steps(interval: Interval) -> Iterator[Interval]:
    start, stop = interval
    while start < stop:
        yield start, min(stop, start + COPY_BYTES)
        start += COPY_BYTES
