"""The reserve of a hub (see `bucketfs.reserve`), in the file ``reserve`` of its data folder.

SQLite needs some room to open a database, and more to delete from one. So a hub gives the reserve up when it has to start, or
to collect, without any room, and step by step for changes while the disk is full. That must be no reason to fail, so errors are
logged.
"""

from __future__ import annotations

import logging
from pathlib import Path

from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError
from bucketfs.reserve import Reserve

RESERVE_BYTES = 4 << 20

SCRATCH_BYTES = 512 << 10
"""What one removal needs: its nodes, and the logs of index and database."""

AMPLE_BYTES = 4 * RESERVE_BYTES

log = logging.getLogger(__name__)


def take_reserve(data: Path) -> None:
    """Take the reserve of the hub in ``data`` if there is ample room."""
    try:
        _reserve(data).fill()
    except BucketfsError as error:
        log.debug("no reserve is kept in %s: %s", data, error)


def give_up_reserve(data: Path, step_bytes: int = RESERVE_BYTES) -> bool:
    """Give up ``step_bytes`` of the reserve if the disk has less room than that. Whether there was any to give up."""
    try:
        return _reserve(data).release_when_full(step_bytes)
    except BucketfsError as error:
        log.debug("no reserve is given up in %s: %s", data, error)
        return False


def _reserve(data: Path) -> Reserve:
    return Reserve(Disk(), data / "reserve", RESERVE_BYTES, ample_bytes=AMPLE_BYTES)
