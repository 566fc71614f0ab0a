"""Folders mirrored with one bucket: what each side does arrives at the other, and nothing is lost on the way."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from support.machine import Machine, settle
from support.memory_remote import MemoryRemote

from bucketfs.dag import drive, list_directory, resolve
from bucketfs.types import Cid

LEAF = 262144


def names(remote: MemoryRemote, path: tuple[bytes, ...] = ()) -> list[bytes]:
    link = drive(resolve(remote.at, path), remote._get)
    assert link is not None
    return list(drive(list_directory(link.cid), remote._get).entries)


async def test_what_one_has_the_other_gets(one: Machine, two: Machine) -> None:
    """Contents, modes, times, links and empty folders arrive at the other machine."""
    one.write("a/b/small", "small")
    one.write("a/large", os.urandom(3 * LEAF + 5))
    one.write("a/middle", os.urandom(LEAF // 2))
    one.write("none", "")
    (one.top / "empty").mkdir(mode=0o750)
    (one.top / "a/b/small").chmod(0o600)
    os.symlink("a/large", one.top / "link")
    await settle(one, two)
    assert two.tree(modes=True) == one.tree(modes=True)
    assert len(two.tree()) == 8
    two.write("a/b/small", "changed")
    two.remove("a/large")
    two.write("new", "new")
    await settle(two, one)
    assert two.tree(modes=True) == one.tree(modes=True)
    assert one.read("a/b/small") == "changed"
    assert not (one.top / "a/large").exists()


async def test_nothing_to_do_does_nothing(one: Machine, remote: MemoryRemote) -> None:
    """Else every round would send, or touch the user's files."""
    one.write("a/file", "x")
    await one.round()
    before = {path: path.lstat() for path in [one.top, *one.top.rglob("*")]}
    swaps, sent = remote.swaps, remote.bytes_put
    again = await one.round()
    assert (remote.swaps, remote.bytes_put) == (swaps, sent)
    assert not again.did_something
    assert again.figures.unchanged == 1
    assert {path: path.lstat() for path in [one.top, *one.top.rglob("*")]} == before


async def test_both_have_something_the_first_time(one: Machine, two: Machine) -> None:
    """The first round removes nothing and keeps both versions of what differs."""
    for machine in (one, two):
        machine.write("common/same", "same")
        machine.write("common/other", machine.name)
        machine.write(f"only {machine.name}", "x")
    os.utime(two.top / "common/same", ns=(5, 5))
    await settle(one, two)
    assert one.tree(modes=True) == two.tree(modes=True)
    assert one.read("common/other") == "one"
    assert one.read("common/other (conflict two 1)") == "two"
    assert sorted(one.tree()) == [
        "common",
        "common/other",
        "common/other (conflict two 1)",
        "common/same",
        "only one",
        "only two",
    ]


async def test_both_changed_while_apart(one: Machine, two: Machine) -> None:
    """Both users' changes are kept; where they collide, both versions are."""
    for name in ("mine", "theirs", "both", "gone", "kept", "dir/in"):
        one.write(name, "old")
    await settle(one, two)
    one.write("mine", "new")
    one.write("both", "of one")
    one.remove("gone")
    one.remove("dir")
    one.write("kept", "changed")
    two.write("theirs", "new")
    two.write("both", "of two")
    two.remove("kept")
    await settle(one, two)
    assert (
        one.tree()
        == two.tree()
        == {
            "mine": "new",
            "theirs": "new",
            "both": "of one",
            "both (conflict two 1)": "of two",
            "kept": "changed",
        }
    )


class CountingRemote(MemoryRemote):
    """Notes which blocks it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[Cid] = []

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        self.fetched.extend(cids)
        return await super().blocks(cids)


async def test_a_rename_is_followed_and_copied(tmp_path: Path) -> None:
    """Else renaming a folder would transfer all of it again."""
    remote = CountingRemote()
    one, two = Machine(tmp_path, "one", remote), Machine(tmp_path, "two", remote)
    one.write("dir/large", os.urandom(5 * LEAF))
    one.write("dir/middle", os.urandom(LEAF))
    one.write("dir/other", "x")
    await settle(one, two)
    (one.top / "dir").rename(one.top / "moved")
    sent = remote.bytes_put
    done = await one.round()
    assert done.figures.unchanged == 3, "the files of a moved folder are read again"
    assert remote.bytes_put - sent < LEAF
    two.write("dir/other", "changed on the other side")
    remote.fetched.clear()
    await settle(two, one)
    assert one.tree() == two.tree()
    assert one.read("moved/other") == "changed on the other side"
    assert not (one.top / "dir").exists()
    assert sum(len(remote.store[cid]) for cid in remote.fetched) < LEAF, "what is here is fetched"


async def test_types_change_places(one: Machine, two: Machine) -> None:
    """A file that became a folder, or a link, arrives as such."""
    one.write("file to folder", "x")
    one.write("folder to file/in/deep", "x")
    one.write("file to link", "x")
    await settle(one, two)
    for name in ("file to folder", "folder to file", "file to link"):
        one.remove(name)
    one.write("file to folder/in", "y")
    one.write("folder to file", "y")
    os.symlink("anywhere", one.top / "file to link")
    await settle(one, two)
    assert (
        two.tree()
        == one.tree()
        == {
            "file to folder": None,
            "file to folder/in": "y",
            "folder to file": "y",
            "file to link": "-> anywhere",
        }
    )


async def test_modes_travel_without_the_bytes(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """Else a chmod would transfer the file again, and break its open readers."""
    one.write("large", os.urandom(4 * LEAF))
    one.write("dir/small", "x")
    await settle(one, two)
    inode = (two.top / "large").stat().st_ino
    (one.top / "large").chmod(0o755)
    (one.top / "dir").chmod(0o700)
    two.write("dir/small", "written meanwhile")
    sent = remote.bytes_put
    await settle(one, two)
    assert remote.bytes_put - sent < LEAF
    assert (two.top / "large").stat().st_mode & 0o777 == 0o755
    assert (two.top / "large").stat().st_ino == inode
    assert (two.top / "dir").stat().st_mode & 0o777 == 0o700
    assert one.read("dir/small") == "written meanwhile"
