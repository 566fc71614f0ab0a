"""Files with holes: what tools that count blocks are told, on the machine that made them and on another."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from support.home import Home
from support.kernel import forget_inodes

TERA = 1 << 40
GIGA = 1 << 30


def held(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_hole_takes_no_blocks(home: Home) -> None:
    """`du` and backup tools would take a sparse disk image for a full one, and copies of it would fill disks."""
    mounted = home.mount()
    folder = mounted.path / "home"
    with (folder / "hole").open("wb") as file:
        file.truncate(TERA // 1024)
    with (folder / "sparse").open("wb") as file:
        for number in range(4):
            file.seek(number * 300_000_000)
            file.write(b"x" * 10_000)
    (folder / "dense").write_bytes(b"d" * 600_000)
    wanted = {"hole": 0, "sparse": 40_000, "dense": 600_000}

    def assert_blocks(when: str) -> None:
        for name, size in wanted.items():
            assert size <= held(folder / name) <= size + 4 * 4096, f"{name} {when}"

    assert_blocks("at once")
    before = {name: held(folder / name) for name in wanted}
    if forget_inodes(mounted.path):
        assert {name: held(folder / name) for name in wanted} == before, "after the kernel forgot the inodes"
    mounted.sync()
    mounted.kill()
    mounted = home.mount()
    assert {name: held(folder / name) for name in wanted} == before, "after a push and a kill"
    with (folder / "sparse").open("r+b") as again:
        again.seek(100_000_000)
        again.write(b"y" * 10_000)
    os.truncate(folder / "hole", 2 * GIGA)
    wanted["sparse"] = 50_000
    assert_blocks("after a write into a hole")
    os.truncate(folder / "dense", 1000)
    os.truncate(folder / "dense", 600_000)
    assert held(folder / "dense") == 1024
    mounted.sync()
    mounted.umount()
    home.forget("cache", "state")
    mounted = home.mount()
    # Where only the bucket says it: links over zeros are none, all else counts.
    assert held(folder / "hole") < 100_000_000
    assert held(folder / "sparse") < (folder / "sparse").stat().st_size / 2
    mounted.umount()


def test_a_file_ends_at_its_limit(home: Home) -> None:
    """The last bytes that a file may have can be written and kept; a longer file is refused, as on ext4."""
    mounted = home.mount()
    path = mounted.path / "home/f"
    limit = 16 * TERA - 4096
    with path.open("wb") as file:
        os.pwrite(file.fileno(), b"e" * 4096, limit - 4096)
        os.fsync(file.fileno())
    assert path.stat().st_size == limit
    assert held(path) == 4096
    for longer in (limit + 1, 16 * TERA, 1 << 60):
        with pytest.raises(OSError, match="File too large"):
            os.truncate(path, longer)
    descriptor = os.open(path, os.O_WRONLY)
    with pytest.raises(OSError, match="File too large"):
        os.pwrite(descriptor, b"e" * 4096, limit)
        os.fsync(descriptor)
    with suppress(OSError):
        os.close(descriptor)
    assert held(path) == 4096
    path.unlink()
    mounted.umount()


def test_df_counts_what_can_be_made(home: Home) -> None:
    """Installers and monitors that read df would refuse to run, because no inodes seem to be left or the disk looks larger
    than it is."""
    mounted = home.mount()
    facts = os.statvfs(mounted.path)
    beside = os.statvfs(home.root)
    shown = home.run(["df", "--output=ipcent", mounted.path]).stdout.split()[-1]
    assert shown == "-", shown
    assert facts.f_blocks * facts.f_frsize <= beside.f_blocks * beside.f_frsize
    mounted.umount()
