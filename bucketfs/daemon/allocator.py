"""How the C library gives memory back to the kernel, for processes that move blocks.

A block of 256 KiB and a message of 1 MiB are large for malloc: in its default form it maps them one by one, or gives the end of
its heap back as soon as 2 MiB of it are free, and the next message faults every page in anew. Measured on a virtual machine
(2 us for a fault): the embedded Hub spent 4.3 ms of processor time on each MB it sent, 1.7 with what is set here, and its
clients 2.4 and 1.9.
"""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

MAP_FROM_BYTES = 32 << 20
"""Smaller pieces come from the heap. It is the most that glibc takes."""
KEPT_FREE_BYTES = 16 << 20
"""What may be free at the end of a heap before it is given back."""
HEAPS_MAX = 4
"""So that at most 64 MiB are kept; by default there may be eight heaps for each processor."""

# mallopt(3), malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Sets the process's allocator up for large pieces that come and go; once, early. False where it cannot be set up so: another
    C library than glibc has other ways, and bucketfs is only slower there."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        log.debug("the allocator has no mallopt; it stays as it is")
        return False
    settings = ((_M_MMAP_THRESHOLD, MAP_FROM_BYTES), (_M_TRIM_THRESHOLD, KEPT_FREE_BYTES), (_M_ARENA_MAX, HEAPS_MAX))
    # glibc answers 1 for what it took. Each is tried, whatever became of the others.
    taken = [mallopt(ctypes.c_int(parameter), ctypes.c_int(value)) == 1 for parameter, value in settings]
    return all(taken)
