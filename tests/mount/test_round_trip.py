"""Real input there and back: rsync in, everything local deleted, and nothing for rsync left to do in either direction."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import trees
from support.home import Home, Mounted, Watchdog


def rsync(*arguments: str | Path) -> str:
    done = subprocess.run(["rsync", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_equal_for_rsync(left: Path, right: Path) -> None:
    """By content (-c), modes, times, links and owners (-a), in both directions, deletions included."""
    for source, target in ((left, right), (right, left)):
        assert rsync("-nac", "--delete", "--itemize-changes", f"{source}/", f"{target}/") == ""


def come_back_with_nothing_but_the_hub(mount: Mounted) -> Mounted:
    mount.umount()
    mount.home.forget("cache", "state")
    return mount.home.mount()


def check_round_trip(home: Home, source: Path) -> None:
    trees.age(source)
    mount = home.mount()
    target = mount.path / "home" / "lib"
    rsync("-a", f"{source}/", f"{target}/")
    assert_equal_for_rsync(source, target)
    mount.sync()
    seen = trees.look(target)
    mount = come_back_with_nothing_but_the_hub(mount)
    assert_equal_for_rsync(source, target)
    assert trees.look(target) == seen == trees.look(source)
    # A second run of rsync is a no-op and must not make anything dirty.
    assert rsync("-a", "--itemize-changes", f"{source}/", f"{target}/") == ""
    # What is deleted at the source goes away here too.
    for path in sorted(source.rglob("*.py"))[::7]:
        path.unlink()
    trees.age(source)
    rsync("-a", "--delete", f"{source}/", f"{target}/")
    mount.sync()
    mount = come_back_with_nothing_but_the_hub(mount)
    assert_equal_for_rsync(source, target)
    mount.umount()


def test_standard_library_cut(home: Home, stage: Path) -> None:
    """A tree of real files goes to the Hub and comes back the same."""
    source = stage / "cut"
    assert trees.standard_library(source, whole=False) > 300
    trees.oddities(source / "odd")
    check_round_trip(home, source)


@pytest.mark.whole
@pytest.mark.timeout(1200)
def test_standard_library_whole(home: Home, stage: Path) -> None:
    """The same with the whole tree."""
    source = stage / "library"
    assert trees.standard_library(source, whole=True) > 1000
    trees.oddities(source / "odd")
    check_round_trip(home, source)


def check_big_file(home: Home, size_bytes: int) -> None:
    original = home.root / "big"
    trees.write_random(original, size_bytes, seed=size_bytes)
    os.utime(original, ns=(0, 1_500_000_000_000_000_001))
    mount = home.mount()
    rsync("-a", original, mount.path / "home/")
    mount.sync(timeout_s=900)
    mount = come_back_with_nothing_but_the_hub(mount)
    arrived = mount.path / "home/big"
    assert arrived.stat().st_size == size_bytes
    assert arrived.stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert subprocess.run(["cmp", original, arrived], check=False).returncode == 0
    # A small change in the middle is a small change: the rest of the blocks are the Hub's already.
    with arrived.open("r+b") as file, original.open("r+b") as twin:
        for one in (file, twin):
            one.seek(size_bytes // 2)
            one.write(b"changed in place")
    mount.sync(timeout_s=900)
    mount = come_back_with_nothing_but_the_hub(mount)
    assert subprocess.run(["cmp", original, arrived], check=False).returncode == 0
    mount.umount()


def test_big_file_cut(home: Home) -> None:
    """A big file goes to the Hub and comes back the same."""
    check_big_file(home, 48 * 1024 * 1024 + 17)


@pytest.mark.whole
@pytest.mark.timeout(1800)
def test_big_file_whole(home: Home) -> None:
    """The same with a file of 1 GiB."""
    check_big_file(home, 1024 * 1024 * 1024)


def check_many_entries(home: Home, count: int) -> None:
    mount = home.mount()
    folder = mount.path / "home" / "many"
    folder.mkdir()
    for number in range(count):
        (folder / f"entry number {number:06d}").write_bytes(b"%d" % number)
    mount.sync(timeout_s=900)
    mount = come_back_with_nothing_but_the_hub(mount)
    names = sorted(os.listdir(folder))
    assert names == [f"entry number {number:06d}" for number in range(count)]
    for number in range(0, count, 97):
        assert (folder / names[number]).read_bytes() == b"%d" % number
    # Down below the size at which directories are sharded, and up again by one.
    for name in names[count // 10 :]:
        (folder / name).unlink()
    mount.sync(timeout_s=900)
    mount = come_back_with_nothing_but_the_hub(mount)
    assert sorted(os.listdir(folder)) == names[: count // 10]
    subprocess.run(["rm", "-r", folder], check=True)
    mount.sync()
    assert os.listdir(mount.path / "home") == []
    mount.umount()


@pytest.mark.timeout(240)
def test_many_entries_cut(home: Home) -> None:
    """6,000 names of 19 bytes: enough for a sharded directory (262,144 / (19 + 36) = 4,766)."""
    check_many_entries(home, 6000)


@pytest.mark.whole
@pytest.mark.timeout(1200)
def test_many_entries_whole(home: Home) -> None:
    """A folder with very many entries goes to the Hub and comes back."""
    check_many_entries(home, 20_000)


@pytest.mark.timeout(300)
def test_two_accounts_do_not_see_each_other(new_home: Callable[[], Home]) -> None:
    """One account never sees another one's buckets."""
    one, two = new_home(), new_home()
    with Watchdog(one, 200), Watchdog(two, 200):
        first, second = one.mount(), two.mount()
        (first.path / "home/mine").write_text("1")
        first.sync()
        assert os.listdir(second.path / "home") == []
        first.umount()
        second.umount()
