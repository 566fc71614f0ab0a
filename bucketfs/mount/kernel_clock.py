"""The clock that the kernel stamps files with."""

from __future__ import annotations

import os
import time

CLOCK_REALTIME_COARSE = 5
"""clock_gettime(2). The module ``time`` has no name for it."""


class KernelClock:
    """The time as the kernel would stamp a file now, in nanoseconds since 1970. Calls in order get times in order, whether they are
    stamped here or in the kernel, as in a local file system.

    The kernel stamps with the time of its last tick, some milliseconds ago: a stamp by the fine clock would be newer than that of
    a file made after it. Since Linux 6.13 a stamp is also never older than any fine one that a file system with multigrain
    timestamps gave before (Documentation/filesystems/multigrain-ts.rst), which clock_gettime(2) does not tell. So a file on such
    a file system, in memory (tmpfs), is touched and its ctime read.
    """

    def __init__(self) -> None:
        try:
            self._file = os.memfd_create("clock", os.MFD_CLOEXEC)
        except OSError:  # a sandbox may forbid it
            self._file = -1

    def __call__(self) -> int:
        if self._file < 0:
            return time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
        os.utime(self._file)
        return os.fstat(self._file).st_ctime_ns
