"""How the C library gives memory back to the kernel, for processes that move blocks.

A block of 256 KiB and a message of 1 MiB are large for malloc: in its default form it maps them one by one, or gives the end of
its heap back as soon as 2 MiB of it are free, and the next message faults every page in anew. Measured on a virtual machine
(2 us for a fault): the embedded Hub spent 4.3 ms of processor time on each MB it sent, 1.7 with what is set here, and its
clients 2.4 and 1.9.

What is free between pieces that are in use is kept, too, and grows with the hours as the pieces come and go: as much again as was
in use, in two mounts that were written to all the time. So a process that stays gives the free pages back once a minute. Taken
anew they cost some 30 ms, which a minute does not notice.
"""

from __future__ import annotations

import ctypes
import logging
import threading

log = logging.getLogger(__name__)

MAP_FROM_BYTES = 32 << 20
"""Smaller pieces come from the heap. It is the most that glibc takes."""
KEPT_FREE_BYTES = 16 << 20
"""What may be free at the end of a heap before it is given back."""
HEAPS_MAX = 4
"""By default there may be eight heaps for each processor, and each keeps that much."""
GIVE_BACK_EVERY_S = 60.0

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


def give_back_now_and_then(every_s: float = GIVE_BACK_EVERY_S) -> bool:
    """Gives free memory back to the kernel every ``every_s`` seconds from now on, on a thread that ends with the process. For
    processes that stay; once. False where the C library has no such call."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        log.debug("the allocator has no malloc_trim; it stays as it is")
        return False
    malloc_trim.argtypes = [ctypes.c_size_t]
    never = threading.Event()

    def give_back() -> None:
        while not never.wait(every_s):
            malloc_trim(KEPT_FREE_BYTES)  # ctypes lets other threads run meanwhile

    threading.Thread(target=give_back, name="bucketfs-give-back", daemon=True).start()
    return True
