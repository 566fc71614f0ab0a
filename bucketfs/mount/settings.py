"""How one mount behaves towards the kernel: its options, and limits that are raised through /sys after the mount."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from bucketfs.mount.table import Mounted

log = logging.getLogger(__name__)

_BDI = Path("/sys/class/bdi")
_CONNECTIONS = Path("/sys/fs/fuse/connections")


@dataclass(frozen=True, slots=True)
class MountSettings:
    """All times are seconds."""

    allow_other: bool = False
    read_only: bool = False
    timeout_s: float = 30.0
    """How long the rooms below may take before they give up by themselves."""
    grace_s: float = 5.0
    """How much longer a request may take before it is answered for them."""
    fsync_timeout_s: float = 0.0
    """A longer limit for fsync alone, for mounts whose fsync waits until everything is at the Hub."""
    entry_timeout_s: float = 3600.0
    attr_timeout_s: float = 3600.0
    """How long the kernel may believe what it was told. Long, because each change from elsewhere is announced to it."""
    negative_timeout_s: float = 0.0
    """How long the kernel may believe that a name is missing. 0 unless every new name is announced (EntryChanged)."""
    unmount_grace_s: float = 10.0
    """How long a polite unmount may take (the kernel writes back what it holds) before the mount is detached."""
    read_ahead_bytes: int = 1024 * 1024
    """How far the kernel reads ahead. Only root may raise it over the 128 KiB a file system gets by itself. Measured on 200
    MB from a warm block cache: 340–500 MB/s with 128 KiB, 800–880 MB/s with 1 MiB."""
    background_max: int = 256
    """Read-ahead and write-back requests in flight. With the kernel's own 12 (FUSE_DEFAULT_MAX_BACKGROUND, fs/fuse/inode.c) a dozen
    reads that wait for a Hub would hold up the write-back of other files."""
    tasks_max: int = 512
    """Requests served at once. Waiting ones cost a task each and must not keep cached content from being answered."""

    def kernel_options(self) -> set[str]:
        """The options of the mount as libfuse takes them.

        ``nosuid`` and ``nodev`` are what fusermount3 adds for plain users. Root gets them too: anyone who can write to a bucket
        could otherwise plant a program that runs as root.
        """
        # default_permissions: the kernel checks modes and owners, which FUSE leaves to the file system otherwise (fuse(4)).
        options = {"fsname=bucketfs", "subtype=bucketfs", "default_permissions", "nosuid", "nodev"}
        if self.allow_other:
            options.add("allow_other")
        if self.read_only:
            options.add("ro")
        return options


def raise_limits(mounted: Mounted, settings: MountSettings) -> dict[str, int]:
    """Raise read-ahead (root only) and the number of background requests (the owner, where fusectl is mounted): pyfuse3 cannot.

    Without them a mount is slower under load, not wrong. Returns those that took effect, for ``status``.
    """
    wanted = {
        "read_ahead_kb": (_BDI / mounted.device / "read_ahead_kb", settings.read_ahead_bytes // 1024),
        "max_background": (connection_folder(mounted) / "max_background", settings.background_max),
        "congestion_threshold": (connection_folder(mounted) / "congestion_threshold", settings.background_max * 3 // 4),
    }
    done = {}
    for name, (path, value) in wanted.items():
        try:
            path.write_text(f"{value}\n")
        except OSError as error:
            log.debug("%s stays as it is: %s", name, error)
        else:
            done[name] = value
    return done


def connection_folder(mounted: Mounted) -> Path:
    """The control files of a FUSE connection, named by the device number in its kernel form
    (Documentation/filesystems/fuse.rst)."""
    # MKDEV of include/linux/kdev_t.h, which is not the dev_t of makedev(3).
    major, minor = (int(part) for part in mounted.device.split(":"))
    return _CONNECTIONS / str((major << 20) | minor)
