"""The standard input as a file that can be pushed.

A push may have to be done again when others change the bucket meanwhile, and a pipe can be read only once: so it is written to a
file first.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bucketfs.daemon import make_private
from bucketfs.errors import DiskFailed, NoSpace

STANDARD_INPUT = 0


@contextmanager
def spooled(cache: Path) -> Iterator[Path]:
    """Where the standard input is to be written: a place in the cache folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pipe-", dir=make_private(cache)) as folder:
        yield Path(folder) / "pipe"


def spool(place: Path) -> None:
    """Write the standard input to ``place``, a new file with the mode of any other. Blocks. Raises NoSpace, DiskFailed."""
    try:
        # By the descriptor: the text layer may have been replaced, or be in the middle of a line.
        with open(STANDARD_INPUT, "rb", closefd=False) as source, place.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except OSError as error:
        kind = NoSpace if error.errno in _FULL else DiskFailed
        raise kind(f"cannot keep the standard input in {place.parent}: {error.strerror or error}") from error


_FULL = (errno.ENOSPC, errno.EDQUOT)
