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
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    can, faults = done.stdout.split()
    assert can == str(platform.libc_ver()[0] == "glibc")
    # Given back and taken anew it would be 20 × 4 × 256 pages.
    assert can == "False" or int(faults) < 1024
