"""A limit at the Hub, as programs meet it: EDQUOT in time, df that tells the truth, and no harm to what is there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.home import Home
from support.hubprocess import developer
from support.waiting import eventually

MIB = 1 << 20


def write(path: Path, size_bytes: int) -> None:
    """Write and sync, as a program that cares: the kernel may take bytes before we are asked."""
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(size_bytes))
        os.fsync(file.fileno())


def left_mib(path: Path) -> float:
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize / MIB


@pytest.mark.timeout(180)
def test_a_limit_is_met_before_the_push(home: Home) -> None:
    """A program would be told of success for a file that the Hub then refuses, or df would show room that is not there."""
    with developer(home, "--account-size", "6MiB"):
        mount = home.mount()
        (mount.path / "data").mkdir()
        write(mount.path / "data/first", 4 * MIB)
        mount.sync()
        eventually(lambda: 1.5 < left_mib(mount.path) < 2.5, "df does not show what is left")
        with pytest.raises(OSError) as caught:
            write(mount.path / "data/second", 3 * MIB)
        assert caught.value.errno == errno.EDQUOT
        (mount.path / "data/second").unlink()
        write(mount.path / "data/third", MIB)
        # The kernel tells the first syncfs once more that a write failed.
        assert "Disk quota exceeded" in home.complaint("sync", mount.path)
        mount.sync()
        assert mount.status()["error"] is None
        # What is removed makes room at once.
        (mount.path / "data/first").unlink()
        write(mount.path / "data/fourth", 4 * MIB)
        mount.sync()
        assert sorted(os.listdir(mount.path / "data")) == ["fourth", "third"]
        mount.umount()
