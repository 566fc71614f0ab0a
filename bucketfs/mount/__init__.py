"""The kernel's side: a VFS shown as a mounted folder.

Requests of the kernel come in through ``operations``, which only translates; errors leave as errnos by the one table in
``errno``; changes from elsewhere are announced by ``invalidate``. ``Mount`` holds them together, from the checks before the mount
to the unmount.

What this room promises:

1. Every request is answered, at the latest ``timeout_s + grace_s`` after it came in.
2. The kernel may believe names and attributes for an hour, and is told of each change from elsewhere by ``Mount.notify``.
3. Unmounting lets the kernel write back first, and is bounded; after ``run`` returned or raised, nothing is mounted.
4. Nothing here touches the mounted folder from the trio thread.

``mounts``, ``mounted_at``, ``mount_above``, ``unmount`` read the kernel's table of mounts and need no running mount of this
process.
"""

from typing import TYPE_CHECKING

from bucketfs.mount.checks import prepare, real_path
from bucketfs.mount.errno import errno_of
from bucketfs.mount.kernel_clock import KernelClock
from bucketfs.mount.settings import MountSettings
from bucketfs.mount.table import Mounted, detached, is_dead, mount_above, mounted_at, mounts, unmount, write_back

if TYPE_CHECKING:
    from bucketfs.mount.mount import Mount

__all__ = [
    "KernelClock",
    "Mount",
    "MountSettings",
    "Mounted",
    "detached",
    "errno_of",
    "is_dead",
    "mount_above",
    "mounted_at",
    "mounts",
    "prepare",
    "real_path",
    "unmount",
    "write_back",
]


def __getattr__(name: str) -> object:
    """``Mount`` is loaded when it is first asked for: commands that only look at mounts need neither libfuse nor the VFS."""
    if name == "Mount":
        from bucketfs.mount.mount import Mount

        return Mount
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
