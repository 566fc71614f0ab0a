"""Room that a hub keeps for hard times: a file whose blocks are given up when the disk is full.

SQLite needs some room to open a database, and more to delete from one. So a hub takes a few MiB in advance, in the file ``reserve``
of its data folder, and gives them up when it has to start, or to collect, without any.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

RESERVE_BYTES = 4 << 20

SHORT_BYTES = 2 * RESERVE_BYTES
"""With less than this the reserve is not taken, for others need it more, and is given up before work that needs room."""

log = logging.getLogger(__name__)


def take_reserve(data: Path) -> None:
    """Take the reserve of the hub in ``data`` if there is ample room."""
    try:
        if _free_bytes(data) < SHORT_BYTES:
            return
        descriptor = os.open(_path(data), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < RESERVE_BYTES:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("no reserve is kept in %s: %s", data, error)


def give_up_reserve(data: Path) -> bool:
    """Give up the reserve if the disk is short of room. Whether there was one to give up."""
    try:
        if _free_bytes(data) >= SHORT_BYTES or not _path(data).stat().st_size:
            return False
        os.truncate(_path(data), 0)
    except OSError as error:
        log.debug("no reserve is given up in %s: %s", data, error)
        return False
    return True


def _path(data: Path) -> Path:
    return data / "reserve"


def _free_bytes(data: Path) -> int:
    facts = os.statvfs(data)
    return facts.f_bavail * facts.f_frsize
