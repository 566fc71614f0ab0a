"""That a block's memory is kept for the next block, in a process of its own: the setting is the process's."""

from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
import resource
from bucketfs.daemon import keep_freed_memory
can = keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def turn():
    pieces = [bytearray(1 << 20) for _ in range(4)]
    return len(pieces)
turn()
before = faults()
for _ in range(20):
    turn()
print(can, faults() - before)
"""


def test_memory_of_large_pieces_is_used_again() -> None:
    """Reading and writing would be slow, because the kernel maps and clears fresh memory for each block."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    can, faults = done.stdout.split()
    assert can == str(platform.libc_ver()[0] == "glibc")
    # Given back and taken anew it would be 20 × 4 × 256 pages.
    assert can == "False" or int(faults) < 1024


FRAGMENTED = """
import time
from bucketfs.daemon import return_free_memory_regularly, keep_freed_memory
keep_freed_memory()
def resident_kib():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmRSS:")[2].split()[0])
pieces = [bytearray(100_000) for _ in range(1500)]
kept = pieces[::50]
del pieces
free = resident_kib()
can = return_free_memory_regularly(0.05)
limit = time.monotonic() + 30
while can and resident_kib() > free - 50_000 and time.monotonic() < limit:
    time.sleep(0.01)
print(can, free - resident_kib(), sum(map(len, kept)))
"""


def test_what_is_free_between_pieces_in_use_is_given_back() -> None:
    """After a large copy the daemon would hold on to memory that it does not use."""
    done = subprocess.run([sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True)
    can, given_kib, kept = done.stdout.split()
    assert can == str(platform.libc_ver()[0] == "glibc")
    assert can == "False" or int(given_kib) >= 50_000
    assert int(kept) == 30 * 100_000
