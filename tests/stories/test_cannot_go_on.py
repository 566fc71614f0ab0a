"""A daemon that breaks leaves a dead mount point behind, which says so to everybody, and never the empty folder below it."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from support import leftovers
from support.foreground import Foreground
from support.home import Home

BROKEN = """
import pathlib, sys, trio
from bucketfs.cli import main
from bucketfs.daemon import daemon

async def breaks(self, volumes):
    while not pathlib.Path(sys.argv[-1] + '.break').exists():
        await trio.sleep(0.02)
    raise RuntimeError('a mistake of ours')

daemon._Daemon._record_regularly = breaks
sys.exit(main())
"""


def test_a_mistake_of_ours_leaves_the_mount_point_dead(home: Home) -> None:
    """After a crash a backup tool would see an empty folder, and delete everything in its copy."""
    place: Path = home.root / "Buckets"
    place.mkdir()
    daemon = Foreground.start(home, command=[sys.executable, "-c", BROKEN])
    (place / "home/file").write_text("kept")
    Path(f"{place}.break").touch()
    assert daemon.process.wait(60) != 0
    with pytest.raises(OSError) as raised:
        os.listdir(place)
    assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert any(mount.where == place for mount in leftovers.mounts())
    # The next one clears it and has everything.
    daemon = Foreground.start(home)
    assert (place / "home/file").read_text() == "kept"
    assert daemon.stop() == 0
    assert os.listdir(place) == []


def test_a_daemon_that_does_not_come_up_leaves_a_dead_mount_dead(home: Home) -> None:
    """A failed restart would clear the dead mount point, and programs would write into the folder below it."""
    place: Path = home.root / "Buckets"
    place.mkdir()
    daemon = Foreground.start(home)
    daemon.kill()
    home.config.mkdir(exist_ok=True)
    (home.config / "config.toml").write_text("hub = 'unix:/nowhere'\n")
    assert home.cli("mount", place, check=False).returncode != 0
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(place)
    (home.config / "config.toml").unlink()
    daemon = Foreground.start(home)
    assert os.listdir(place) == ["home"]
    assert daemon.stop() == 0


@pytest.mark.whole
def test_commands_do_not_wait_for_a_daemon_that_hangs(home: Home) -> None:
    """`bucketfs status` or `sync` would hang together with a daemon that hangs."""
    mounted = home.mount()
    (mounted.path / "home/file").write_text("kept")
    pid = mounted.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        for command in (["sync", "--timeout", "1"], ["sync", mounted.path], ["status", mounted.path]):
            assert "the daemon did not answer" in home.complaint(*command)
    finally:
        os.kill(pid, signal.SIGCONT)
    mounted.sync()
    mounted.umount()
