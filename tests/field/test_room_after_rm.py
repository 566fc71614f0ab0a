"""A disk is full, with journal, cache and embedded Hub on it. What the user removes comes free at once, and all goes on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from support import leftovers
from support.foreground import Foreground
from support.home import Home
from support.small_disk import SmallDisk, loop_disk, small_disk
from support.waiting import eventually

from bucketfs.dag import cid_of
from bucketfs.errors import BucketfsError, HubFull
from bucketfs.hub import HubConfig, HubServer, collect

MIB = 1 << 20
SIZE_MIB = 80
CHUNK = os.urandom(MIB)
KEPT_MIB = 16
"""What journal, cache, Hub and their reserves hold when nothing waits."""

FILLERS = {"by MiB": MIB, "by sectors": 512}

MakeDisk = Callable[[Path, int], AbstractContextManager[SmallDisk]]

DISKS = pytest.mark.parametrize(
    "make_disk", [pytest.param(loop_disk, id="ext4"), pytest.param(small_disk, id="tmpfs", marks=pytest.mark.whole)]
)


@contextmanager
def all_on(home: Home, make_disk: MakeDisk) -> Iterator[tuple[SmallDisk, Foreground]]:
    """A mount with everything that bucketfs keeps on one small disk; the disk, and the mount."""
    (home.root / "Buckets").mkdir()
    with make_disk(home.root / "small", SIZE_MIB) as disk:
        for name in ("state", "data", "cache"):
            (home.root / name).rmdir()
            (disk.folder / name).mkdir()
            (home.root / name).symlink_to(disk.folder / name)
        home.extra["BUCKETFS_MEMORY_SIZE"] = "16M"
        daemon = Foreground.start(home)
        try:
            yield disk, daemon
        finally:
            if daemon.process.poll() is None:
                daemon.stop()
            # The Hub outlives the mount for some seconds, and holds the disk.
            leftovers.end(home.pids())


def write_too_much(path: Path) -> None:
    """As ``cp`` of a file that is larger than the disk."""
    with pytest.raises(OSError) as raised, path.open("wb", buffering=0) as file:
        for _ in range(SIZE_MIB + 40):
            file.write(CHUNK)
            os.fdatasync(file)
    assert raised.value.errno == errno.ENOSPC


def fill_to_the_brim(disk: SmallDisk) -> None:
    for name, size in FILLERS.items():
        with (disk.folder / name).open("ab", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(size))
    assert disk.free_bytes < 64 * 1024


def ample(disk: SmallDisk) -> bool:
    return disk.free_bytes > (SIZE_MIB - KEPT_MIB) * MIB * 3 // 4


@DISKS
def test_rm_of_what_filled_the_disk(home: Home, make_disk: MakeDisk) -> None:
    """After removing what filled the disk a user would still get "no space left", or have to restart the mount."""
    with all_on(home, make_disk) as (disk, mount):
        folder = mount.place / "home"
        write_too_much(folder / "big")
        assert disk.free_bytes < MIB
        with pytest.raises(HubFull):
            mount.ask("sync")
        (bucket,) = mount.ask("status")["buckets"]
        assert bucket["paused"] == "room" and f"the disk of {home.data}" in bucket["hint"], bucket
        (folder / "big").unlink()
        # At once, and not when some background task comes to it: the next file of a script is written a moment later.
        data = os.urandom(8 * MIB)
        with (folder / "small").open("wb", buffering=0) as file:
            file.write(data)
            os.fdatasync(file)
        eventually(lambda: ample(disk), "the room of the removed file did not come back", 20)
        mount.ask("sync")
        (bucket,) = mount.ask("status")["buckets"]
        assert bucket["error"] is None and bucket["pending_count"] == 0
        assert (folder / "small").read_bytes() == data


def test_cutting_what_filled_the_disk(home: Home) -> None:
    """``> big`` frees as ``rm big`` does, and so does cutting it to its first lines."""
    with all_on(home, small_disk) as (disk, mount):
        folder = mount.place / "home"
        for size in (0, 1000):
            write_too_much(folder / "big")
            assert disk.free_bytes < MIB
            with suppress(OSError):  # told once more to whoever opens it next
                (folder / "big").open("rb").close()
            os.truncate(folder / "big", size)
            eventually(lambda: ample(disk), f"the room did not come back after a cut to {size} bytes", 20)
            assert (folder / "big").read_bytes() == CHUNK[:size]
        mount.ask("sync")
        assert (folder / "big").read_bytes() == CHUNK[:size]


def test_rm_of_what_filled_the_disk_and_a_kill(home: Home) -> None:
    """What could not be freed before the mount ended is freed by the next one, although the Hub is not there."""
    with all_on(home, small_disk) as (disk, mount):
        folder = mount.place / "home"
        write_too_much(folder / "big")
        os.kill(mount.process.pid, signal.SIGSTOP)
        removing = subprocess.Popen(["rm", folder / "big"])
        os.kill(mount.process.pid, signal.SIGCONT)
        removing.wait(30)
        mount.kill()
        mount = Foreground.start(home)
        try:
            assert list(folder.iterdir()) == []
            eventually(lambda: ample(disk), "the room of the removed file did not come back", 20)
            mount.ask("sync")
        finally:
            mount.stop()


@DISKS
def test_rm_of_what_is_at_the_hub_on_a_disk_that_is_full_to_the_brim(home: Home, make_disk: MakeDisk) -> None:
    """The removal gets through to the embedded Hub, and a collection beside it, which has the pack open, frees the room."""
    with all_on(home, make_disk) as (disk, mount):
        folder = mount.place / "home"
        (folder / "keep").write_bytes(b"k" * 100_000)
        (folder / "old").write_bytes(os.urandom(8 * MIB))
        mount.ask("sync")
        fill_to_the_brim(disk)
        (folder / "old").unlink()
        mount.ask("sync")
        home.forget("cache")
        fill_to_the_brim(disk)
        said = home.cli("hub", "gc", "--grace", "0s").stdout
        assert "Deleted" in said and disk.free_bytes > 7 * MIB, said
        assert (folder / "keep").read_bytes() == b"k" * 100_000


@DISKS
def test_a_hub_starts_and_collects_on_a_disk_that_is_full(tmp_path: Path, make_disk: MakeDisk) -> None:
    """A Hub on a full disk could not start, or could not delete garbage to make room."""
    with make_disk(tmp_path / "small", SIZE_MIB) as disk:
        config = HubConfig(data=disk.folder / "hub", listen=f"unix:{tmp_path}/hub.sock", auto_confirm=True)
        with HubServer(config) as server:
            garbage = [os.urandom(MIB) for _ in range(6)] + [os.urandom(1000) for _ in range(3000)]
            server.hub.blockstore.put_many({cid_of(data): data for data in garbage}, upload=b"over")
            server.hub.blockstore.release(b"over")
        fill_to_the_brim(disk)
        with HubServer(config) as server:
            assert not server.hub.blockstore.missing([cid_of(garbage[0])])
        fill_to_the_brim(disk)
        # What it had kept for such times is used up, and that is less than all of this takes at once.
        with pytest.raises(BucketfsError, match="full"), HubServer(config):
            pass
        for name in FILLERS:
            (disk.folder / name).unlink()
        with HubServer(config):
            pass
        fill_to_the_brim(disk)
        done = collect(config, grace_s=0)
        assert done.blocks_deleted == len(garbage)
        assert disk.free_bytes > 6 * MIB
