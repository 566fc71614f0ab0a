"""A disk that is soon full: a tmpfs of a few MiB, or an ext4 on a loop device. Needs root, or sudo that asks nothing (as `make` has
for packages)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


class SmallDisk:
    """Mounted at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size_mib: int) -> None:
        subprocess.run([*AS_ROOT, "mount", "-o", f"remount,size={size_mib}m", self.folder], check=True)

    @property
    def free_bytes(self) -> int:
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize

    def fill(self, leave_bytes: int = 0) -> Path:
        """Take the room there is, all but ``leave_bytes``; whoever removes the returned file gives it back."""
        path = self.folder / "somebody else's"
        with path.open("wb", buffering=0) as file:
            room = self.free_bytes - leave_bytes
            if room > 0:
                os.posix_fallocate(file.fileno(), 0, room)
        return path


@contextmanager
def loop_disk(folder: Path, size_mib: int) -> Iterator[SmallDisk]:
    """A real block device with ext4 on it, in an image beside ``folder``; gone afterwards. ``resize`` does not work on it. The
    kernel frees the loop device when the file system is unmounted, also by what clears up after a run that was killed."""
    folder.mkdir()
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image], check=True)
    subprocess.run([*AS_ROOT, "mount", "-o", "loop", image, folder], check=True)
    try:
        subprocess.run([*AS_ROOT, "chown", f"{os.geteuid()}:{os.getegid()}", folder], check=True)
        yield SmallDisk(folder)
    finally:
        subprocess.run([*AS_ROOT, "umount", "-l", folder], check=True)
        image.unlink()


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[SmallDisk]:
    """A fresh one, gone afterwards with all that is on it."""
    folder.mkdir()
    options = f"size={size_mib}m,mode=700,uid={os.geteuid()}"
    subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "bucketfs-test", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([*AS_ROOT, "umount", "-l", folder], check=True)
