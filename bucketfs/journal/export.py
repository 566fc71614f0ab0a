"""Writing quarantined changes into a folder of the user's.

::

    changes.txt     every change in its order, and which bytes of which file are not here
    files/…         the files that were written to, at their paths in the bucket; bytes that are not here are holes
    files-2/…       those of a later start: the changes of one start know nothing of those of another
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bucketfs.disk import Disk, DiskFile, PathLike
from bucketfs.errors import BucketfsError, Corrupt, DiskFailed, Exists, NotFound, TooManyOpen
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.journal.drafts import Drafts
from bucketfs.journal.extents import Extents, Interval
from bucketfs.journal.quarantine import Quarantine, QuarantineBatch, QuarantinedFile, files_of, in_words, time_of
from bucketfs.types import DraftId

COPY_BYTES = 1024 * 1024


def export_changes(disk: Disk, drafts: Drafts, quarantine: Quarantine, folder: PathLike) -> int:
    """Write what is quarantined into ``folder``, which is made; how many files that gave. When it returns all of it would survive
    a power loss. Blocks.

    Raises Exists when the folder is there and not empty, NoSpace and DiskFailed (of the folder's disk). When the journal's disk
    answers an error for some bytes, which it may not the next time, all others are written before DiskFailed is raised.
    """
    top = os.fspath(folder)
    if not disk.make_folder(top) and disk.list_folder(top):
        raise Exists(f"{top} is not empty", hint="give a new folder")
    export = _Export(disk, drafts, top)
    for number, batch in enumerate(quarantine.batches, 1):
        export.write_batch(batch, "files" if number == 1 else f"files-{number}")
    export.finish()
    if export.unread:
        unread = ", ".join(map(repr, export.unread))
        raise DiskFailed(
            f"the disk would not read all of {unread}; the rest is in {top}, and all changes stay listed",
            hint="look after the disk, then save them again into another folder",
        )
    return export.files_count


class _Export:
    def __init__(self, disk: Disk, drafts: Drafts, top: str) -> None:
        self.files_count = 0
        self.unread: list[str] = []
        self._disk = disk
        self._drafts = drafts
        self._top = top
        self._folders = [top]
        self._lines: list[str] = []

    def write_batch(self, batch: QuarantineBatch, into: str) -> None:
        """Write the files of one start into the folder ``into``, and the lines about them."""
        if self._lines:
            self._lines.append(f"Made after these were set aside, and without them (files in {into}):")
        for op in batch.changes:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_of(op) / 1e9))
            self._lines.append(f"{when} {in_words(op)}")
        for path, file in files_of(batch.changes).items():
            place = self._make_parents(into, path)
            damaged, unread = self._write(file, place)
            where = "are lost" if file.carried is None else f"are not here: they are lost, or zeros, or in {file.carried!r}"
            self._lines += [f"bytes {start} to {stop} of {path!r} {where}" for start, stop in file.lost()]
            self._lines += [f"bytes {start} to {stop} of {path!r} were damaged by this disk" for start, stop in damaged]
            self._lines += [
                f"bytes {start} to {stop} of {path!r} could not be read from this disk" for start, stop in unread
            ]
            self.files_count += 1
            if unread:
                self.unread.append(path)

    def finish(self) -> None:
        """Make all of it durable; ``changes.txt`` comes last: where it stands, all others are whole."""
        for made in reversed(self._folders):
            self._disk.fsync_folder(made)
        text = "".join(f"{line}\n" for line in self._lines).encode(errors="surrogateescape")
        self._disk.replace_file(f"{self._top}/changes.txt", text)
        self._disk.fsync_folder(os.path.dirname(self._top) or "/")

    def _write(self, file: QuarantinedFile, place: str) -> tuple[list[Interval], list[Interval]]:
        """Write what is left of a file; the bytes that are damaged, and those for which the disk answers an error."""
        damaged, unread = Extents(), Extents()
        target = self._disk.open(place, exclusive=True)
        try:
            self._disk.truncate(target, file.size_bytes)
            for draft, interval in file.parts():
                for start, stop in _in_steps(interval, COPY_BYTES):
                    self._copy(draft, start, stop, target, damaged, unread)
            self._disk.fsync(target)
        finally:
            self._disk.close(target)
        return list(damaged), list(unread)

    def _copy(self, draft: DraftId, start: int, stop: int, target: DiskFile, damaged: Extents, unread: Extents) -> None:
        data, fault = self._read(draft, start, stop)
        if fault is not None and stop - start > BLOCK_SIZE:
            # One bad block must not take its neighbours along.
            for low, high in _in_steps((start, stop), BLOCK_SIZE):
                self._copy(draft, low, high, target, damaged, unread)
            return
        # Zeros, for bytes of an earlier part may stand there, which would be taken for the right ones.
        self._disk.pwrite(target, start, data + bytes(stop - start - len(data)))
        for faults in (damaged, unread):
            faults.remove(start, stop)
        if len(data) < stop - start:
            lacking = unread if isinstance(fault, DiskFailed) else damaged
            lacking.add(start + len(data), stop)

    def _read(self, draft: DraftId, start: int, stop: int) -> tuple[bytes, BucketfsError | None]:
        try:
            return self._drafts.get(draft).read(start, stop - start), None
        except TooManyOpen:
            raise  # not a matter of this draft
        except (Corrupt, NotFound, DiskFailed) as error:
            return b"", error

    def _make_parents(self, into: str, path: str) -> str:
        """Make the folders that ``path`` stands in; where the file goes."""
        at = self._top
        for name in (into, *path.split("/")[:-1]):
            at = f"{at}/{name}"
            if self._disk.make_folder(at):
                self._folders.append(at)
        return f"{at}/{path.rpartition('/')[2]}"


def _in_steps(interval: Interval, size: int) -> Iterator[Interval]:
    """The interval in pieces that end at multiples of ``size``."""
    start, stop = interval
    while start < stop:
        end = min(stop, (start // size + 1) * size)
        yield start, end
        start = end
