"""How many files a process may have open: daemons raise the soft limit to the hard one.

The soft limit is 1,024 on most systems, for programs that use select(2). Our daemons do not, and a mount of many buckets, or a Hub
of many clients, may need more.
"""

from __future__ import annotations

import os
import resource


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as the hard limit does. Its children inherit that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_figures() -> dict[str, int]:
    """``open`` files of this process, and its ``limit``."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"open": len(os.listdir("/proc/self/fd")), "limit": soft}
