"""Room that a hub keeps for hard times: a file whose blocks are given up when the disk is full.

SQLite needs some room to open a database, and more to delete from one. So a hub takes a few MiB in advance, in the file ``reserve``
of its data folder. It gives them up when it has to start, or to collect, without any, and step by step for changes while the disk
is full, since what removes something is written, too.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

RESERVE_BYTES = 4 << 20

SCRATCH_BYTES = 512 << 10
"""What one removal needs: its nodes, and the logs of index and metadata."""

AMPLE_BYTES = 4 * RESERVE_BYTES
"""With less than this the reserve is not taken: others need the room more."""

log = logging.getLogger(__name__)


def take_reserve(data: Path) -> None:
    """Take the reserve of the hub in ``data`` if there is ample room."""
    try:
        if _free_bytes(data) < AMPLE_BYTES:
            return
        descriptor = os.open(_path(data), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < RESERVE_BYTES:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("no reserve is kept in %s: %s", data, error)


def give_up_reserve(data: Path, step_bytes: int = RESERVE_BYTES) -> bool:
    """Give up ``step_bytes`` of the reserve if the disk has less room than that. Whether there was any to give up."""
    try:
        if _free_bytes(data) >= step_bytes:
            return False
        held_bytes = _path(data).stat().st_size
        os.truncate(_path(data), max(0, held_bytes - step_bytes))
    except OSError as error:
        log.debug("no reserve is given up in %s: %s", data, error)
        return False
    return held_bytes > 0


def _path(data: Path) -> Path:
    return data / "reserve"


def _free_bytes(data: Path) -> int:
    facts = os.statvfs(data)
    return facts.f_bavail * facts.f_frsize
