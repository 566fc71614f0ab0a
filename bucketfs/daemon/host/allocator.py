"""When the C library returns memory to the kernel, set up for processes that move blocks.

A block of 256 KiB and a message of 1 MiB are large for malloc: by default it maps them one by one, or returns the end of its heap
as soon as 2 MiB are free, and the next message faults every page in again. Measured on a virtual machine (2 us for a fault): the
embedded Hub spent 4.3 ms of processor time on each MB it sent, 1.7 with these settings, and its clients 2.4 and 1.9.

The price is fragmentation: free memory between pieces in use is kept, too, and grew within hours to as much again as was in use,
in two mounts that were written to all the time. So a daemon returns free pages once a minute, which costs some 30 ms.
"""

from __future__ import annotations

import ctypes
import logging
import threading

log = logging.getLogger(__name__)

MAP_FROM_BYTES = 32 << 20
"""Smaller pieces come from the heap. glibc accepts no more."""
KEPT_FREE_BYTES = 16 << 20
"""How much may be free at the end of a heap before it is returned."""
HEAPS_MAX = 4
"""glibc allows eight for each processor, and each keeps so much."""
GIVE_BACK_EVERY_S = 60.0

# mallopt(3), malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Set up the process's allocator for large pieces that come and go; once, early. False where this is not possible: with another
    C library than glibc bucketfs is only slower."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        log.debug("the C library has no mallopt")
        return False
    settings = ((_M_MMAP_THRESHOLD, MAP_FROM_BYTES), (_M_TRIM_THRESHOLD, KEPT_FREE_BYTES), (_M_ARENA_MAX, HEAPS_MAX))
    # glibc returns 1 for a value it accepts. Each is tried, even when another was refused.
    taken = [mallopt(ctypes.c_int(parameter), ctypes.c_int(value)) == 1 for parameter, value in settings]
    return all(taken)


def return_free_memory_regularly(every_s: float = GIVE_BACK_EVERY_S) -> bool:
    """Return free memory to the kernel every ``every_s`` seconds, on a thread that ends with the process. Called once. False where
    the C library has no such call."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        log.debug("the C library has no malloc_trim")
        return False
    malloc_trim.argtypes = [ctypes.c_size_t]
    never = threading.Event()

    def give_back() -> None:
        while not never.wait(every_s):
            malloc_trim(KEPT_FREE_BYTES)  # ctypes lets other threads run meanwhile

    threading.Thread(target=give_back, name="bucketfs-give-back", daemon=True).start()
    return True
