"""Drafts that a replay cannot use, copied to where a person may look at them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bucketfs.disk import Disk, PathLike
from bucketfs.errors import NotFound
from bucketfs.types import DraftId

COPY_BYTES = 1024 * 1024


def set_aside(disk: Disk, folder: PathLike, drafts: Mapping[DraftId, str]) -> list[str]:
    """Copies drafts, by their paths, into ``set-aside/`` of a journal's folder, where nothing ever deletes them; offsets stay those
    in the file. The paths of the copies, which survive a power loss. Blocks. Raises NoSpace, DiskFailed."""
    return _copy_all(disk, os.fspath(folder), list(drafts.items()))


def _copy_all(disk: Disk, folder: str, drafts: list[tuple[DraftId, str]]) -> list[str]:
    aside = f"{folder}/set-aside"
    if disk.make_folder(aside):
        disk.fsync_folder(folder)
    copies: list[str] = []
    for draft, path in drafts:
        copy = f"{aside}/draft-{draft:016x}"
        try:
            _copy(disk, path, copy)
        except NotFound:
            continue
        copies.append(copy)
    disk.fsync_folder(aside)
    return copies


def _copy(disk: Disk, path: str, copy: str) -> None:
    source = disk.open(path)
    try:
        target = disk.open(copy, create=True)
        try:
            size = disk.size(source)
            for start in range(0, size, COPY_BYTES):
                disk.pwrite(target, start, disk.pread(source, start, COPY_BYTES))
            disk.truncate(target, size)
            disk.fsync(target)
        finally:
            disk.close(target)
    finally:
        disk.close(source)


__all__ = ["set_aside"]
