"""A JSON file that counts while its writer holds a lock on it: how processes of one user find each other.

The lock goes with the process, so what a process that was killed has left in the file counts no more.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import BucketfsError


def write_note(disk: Disk, file: DiskFile, note: dict[str, Any]) -> None:
    """Replace what the file says. Raises NoSpace, DiskFailed."""
    disk.truncate(file, 0)
    disk.pwrite(file, 0, json.dumps(note).encode())


def read_note(disk: Disk, file: Path) -> dict[str, Any] | None:
    """What the process that holds the lock says; None when no process does, or it has not written yet."""
    try:
        note = json.loads(disk.read_file(file)) if disk.is_locked(file) else None
    except (BucketfsError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def path_note(path: Path) -> str:
    """A path in a note: its bytes, which need not be UTF-8."""
    return os.fsencode(path).hex()


def noted_path(text: str) -> Path:
    """The path again. Raises ValueError."""
    return Path(os.fsdecode(bytes.fromhex(text)))
