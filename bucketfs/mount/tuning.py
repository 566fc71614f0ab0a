"""Two limits of the kernel that pyfuse3 has no say in, raised through /sys after the mount.

Both are best effort: without them a mount is slower under load, not wrong. Which of them took effect is returned, so that
``status`` can say it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from bucketfs.mount.settings import MountSettings
from bucketfs.mount.table import Mounted

log = logging.getLogger(__name__)

_BDI = Path("/sys/class/bdi")
_CONNECTIONS = Path("/sys/fs/fuse/connections")


def tune(mounted: Mounted, settings: MountSettings) -> dict[str, int]:
    """Raise read-ahead (root only) and the number of background requests (the owner, where fusectl is mounted)."""
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
    """The control files of a FUSE connection (Documentation/filesystems/fuse.rst): named by the device number in its kernel
    form."""
    major, minor = (int(part) for part in mounted.device.split(":"))
    return _CONNECTIONS / str((major << 20) | minor)
