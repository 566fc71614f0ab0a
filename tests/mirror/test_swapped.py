"""Folders that become others while the mirror writes into them, and what is left again in each round."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.dying import WatchedCalls
from support.machine import Machine, later_ns, no_colons, once, settle
from support.memory_remote import MemoryRemote

from bucketfs.dag import drive, list_directory, resolve
from bucketfs.errors import Refused
from bucketfs.mirror import Mirror, MirrorState
from bucketfs.mirror.refusals import RETRY_NS
from bucketfs.transfer import LocalEntry, LocalFs


def hub_names(remote: MemoryRemote, *path: bytes) -> list[bytes]:
    link = drive(resolve(remote.at, path), remote._get)
    assert link is not None
    return sorted(drive(list_directory(link.cid), remote._get).entries)


def changed_times(machine: Machine) -> dict[Path, int]:
    return {path: path.lstat().st_ctime_ns for path in [machine.top, *machine.top.rglob("*")]}


def writes(name: str, path: bytes | int) -> bool:
    """A call that begins to write a file."""
    return name == "open"


@pytest.mark.parametrize("depth", ["below", "above"])
async def test_no_link_is_followed_out_of_the_folder(one: Machine, two: Machine, tmp_path: Path, depth: str) -> None:
    """Else the mirror could write outside of the folder that the user gave it."""
    one.write("a/b/old", "old")
    one.write("a/b/stays", "stays")
    await settle(one, two)
    two.remove("a/b/old")
    two.write("a/b/new", "new")
    (two.top / "a/b").chmod(0o777)
    await settle(two)
    moved = one.top / ("a/b" if depth == "below" else "a")
    outside = tmp_path / "outside"

    def swap() -> None:
        moved.rename(outside)
        moved.symlink_to(outside)

    one.before_call = once(swap, writes)
    await one.round()
    inner = outside if depth == "below" else outside / "b"
    assert sorted(os.listdir(inner)) == ["old", "stays"]
    assert inner.stat().st_mode & 0o777 != 0o777
    assert one.rounds[-1].soon


async def test_a_link_in_the_place_of_a_folder_is_not_read_through(
    one: Machine, remote: MemoryRemote, tmp_path: Path
) -> None:
    """Else files from elsewhere on the machine would be published."""
    one.write("a/b/mine", "mine")
    await settle(one)
    other = tmp_path / "other"
    (other / "b").mkdir(parents=True)
    (other / "b/secret").write_text("secret")

    class SwappedFs(LocalFs):
        def scan(self, folder: bytes) -> list[LocalEntry]:
            if folder.endswith(b"/a/b") and not (one.top / "a").is_symlink():
                (one.top / "a").rename(tmp_path / "moved")
                (one.top / "a").symlink_to(other)
            return super().scan(folder)

    one.make_fs = SwappedFs
    await one.round()
    assert hub_names(remote, b"a", b"b") == [b"mine"]


async def test_removing_follows_no_link(one: Machine, two: Machine, tmp_path: Path) -> None:
    """Else the mirror could delete outside of the folder."""
    one.write("gone/b/file", "x")
    await settle(one, two)
    two.remove("gone")
    await settle(two)
    looks: list[bytes] = []

    class SwappedFs(LocalFs):
        def scan(self, folder: bytes) -> list[LocalEntry]:
            found = super().scan(folder)
            looks.extend([folder] if folder.endswith(b"/gone") else [])
            if folder.endswith(b"/gone") and len(looks) == 2:
                # The first look was the scan's, this is the removal's.
                (one.top / "gone/b").rename(tmp_path / "kept")
                (one.top / "gone/b").symlink_to(tmp_path / "kept")
            return found

    one.make_fs = SwappedFs
    await one.round()
    assert os.listdir(tmp_path / "kept") == ["file"]
    assert (one.top / "gone/b").is_symlink(), "what the user put there stays"


async def test_what_was_written_where_the_disk_is_not_is_not_removed_later(
    one: Machine, two: Machine, remote: MemoryRemote
) -> None:
    """Else unplugging a disk at a bad moment would delete new files at the Hub."""
    one.write("file", "x")
    await settle(one, two)
    two.write("new", "precious")
    await settle(two)
    disk = one.top.with_name("unplugged")

    def unplug() -> None:
        one.top.rename(disk)
        one.top.mkdir()

    one.before_call = once(unplug, writes)
    with pytest.raises(Refused, match="another folder"):
        await one.round()
    for path in one.top.iterdir():
        path.unlink()
    one.top.rmdir()
    disk.rename(one.top)
    await settle(one, two)
    assert hub_names(remote) == [b".textileseed", b"file", b"new"]
    assert one.tree() == {"file": "x", "new": "precious"}


async def test_an_empty_disk_in_the_same_slot_empties_no_bucket(one: Machine, remote: MemoryRemote) -> None:
    """Else another disk at the same mount point would delete the bucket."""
    one.write("file", "precious")
    one.write("other", "x")
    await settle(one)
    one.remove("other")
    one.remove("file")

    class MountedFs(LocalFs):
        def is_mount_point(self, path: bytes) -> bool:
            return True

    class OtherDiskFs(LocalFs):
        def file_system(self, path: bytes) -> int:
            return 12345

    for make_fs, message in ((MountedFs, "mount point"), (OtherDiskFs, "another folder")):
        one.make_fs = make_fs
        with pytest.raises(Refused, match=message):
            await one.round()
    one.make_fs = LocalFs
    assert hub_names(remote) == [b".textileseed", b"file", b"other"]
    await settle(one)
    assert hub_names(remote) == [b".textileseed"], "a plain folder may be emptied"


async def test_what_is_left_for_good_is_not_touched_in_each_round(one: Machine, two: Machine) -> None:
    """Else each round would wake the next."""
    one.write("dir/file", "x")
    one.write("dir/name", "x")
    await settle(one, two)
    one.remove("dir/name")
    os.mkfifo(one.top / "dir/name")
    two.write("dir/name", "changed")
    await settle(one, two)
    before = changed_times(one)
    again = await one.round()
    assert [item.path for item in again.applied.left] == ["dir/name"]
    assert changed_times(one) == before, "each change would wake the next round"


async def test_what_cannot_be_written_is_tried_now_and_then_only(one: Machine, two: Machine) -> None:
    """Else a file that cannot be written would be fetched again and again."""
    two.write("a:b", "x")
    two.write("l:b", b"x" * (1 << 19))
    await settle(two)
    asked: list[bytes | int] = []

    def before(name: str, path: bytes | int) -> None:
        asked.extend([path] if name == "replace" else [])
        no_colons(name, path)

    clock = [later_ns()]
    state = MirrorState(one.state_file)
    fs = LocalFs(WatchedCalls(before))
    mirror = Mirror(one.remote, replace(one.watched(state, lambda: clock[0]), fs=fs), one.conflict_name)
    await mirror.round()
    assert len(asked) == 2
    times = changed_times(one)
    again = await mirror.round()
    assert sorted(item.path for item in again.applied.left) == ["a:b", "l:b"]
    assert len(asked) == 2
    assert changed_times(one) == times, "each change would wake the next round"
    clock[0] += RETRY_NS
    await mirror.round()
    assert len(asked) == 4
    two.write("a:b", "another")
    await settle(two)
    await mirror.round()
    assert len(asked) == 5
    state.close()
