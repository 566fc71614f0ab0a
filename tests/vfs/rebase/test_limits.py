"""Trees of few blocks and of more folders than anything can go through: a mount is not kept from going on by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import cid_of, drive, edit_directory
from bucketfs.types import Cid, Link
from bucketfs.vfs.rebase import limits as bounds
from bucketfs.vfs.rebase import resurrected as ghosts

LEVELS = 40


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FOLDERS_MAX", 200)
    monkeypatch.setattr(ghosts, "FOLDERS_MAX", 200)


def doubling(remote: MemoryRemote, leaf: bytes) -> Link:
    """A folder with two million million paths."""
    remote.store[cid_of(leaf)] = leaf
    link = Link(cid_of(leaf), len(leaf))
    for _ in range(LEVELS):
        built = drive(edit_directory(None, {b"a": link, b"b": link}), remote._get)
        remote.store.update(built.blocks)
        link = built.link
    return link


def put(remote: MemoryRemote, root: Cid, **changes: Link | None) -> Cid:
    built = drive(edit_directory(root, {name.encode(): link for name, link in changes.items()}), remote._get)
    remote.store.update(built.blocks)
    return built.link.cid


async def test_two_folders_without_end_at_one_name_are_two(tmp_path: Path) -> None:
    """A tree that unfolds without end does not hang a mount."""
    remote = MemoryRemote()
    one, other = doubling(remote, b"one"), doubling(remote, b"other")
    remote.at = put(remote, remote.at, x=one)
    here = await World(tmp_path / "here", remote).open()
    await here.rename("x", "y")
    await here.write("f", b"mine")
    remote.at = put(remote, remote.at, y=other, g=Link(cid_of(b"one"), 3))
    done = await here.pusher().push()
    assert done is not None and not here.volume.root.dirty
    (copy,) = done.conflicts
    assert await here.names() == ["f", "g", "y", copy]
    path = "/".join(["a", "b"] * (LEVELS // 2))
    assert (await here.read(f"y/{path}"), await here.read(f"{copy}/{path}")) == (b"other", b"one")
    assert len(here.volume.tree.registry) < 500
    here.close()


async def test_a_folder_without_end_that_was_changed_deep_inside_and_removed_comes_back(tmp_path: Path) -> None:
    """A removal here does not go through a tree without end; the change survives."""
    remote = MemoryRemote()
    one, other = doubling(remote, b"one"), doubling(remote, b"other")
    inner = drive(edit_directory(None, {b"a": one, b"b": one}), remote._get)
    changed = drive(edit_directory(None, {b"a": other, b"b": other}), remote._get)
    for built in (inner, changed):
        remote.store.update(built.blocks)
    remote.at = put(remote, remote.at, x=inner.link)
    here = await World(tmp_path / "here", remote).open()
    await here.rename("x/a", "p")
    await here.rename("x/b", "q")
    await here.rmdir("x")
    remote.at = put(remote, remote.at, x=changed.link)
    await here.pusher().push()
    assert await here.names() == ["p", "q", "x"] and await here.names("x") == ["a", "b"]
    assert not here.volume.root.dirty
    here.close()


async def test_a_wide_folder_counts_by_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A very wide folder is not taken into memory name by name."""
    monkeypatch.setattr(bounds, "NAMES_MAX", 50)
    remote = MemoryRemote()
    remote.store[cid_of(b"1")] = b"1"
    leaf = Link(cid_of(b"1"), 1)
    many = drive(edit_directory(None, {b"%d" % number: leaf for number in range(60)}), remote._get)
    remote.store.update(many.blocks)
    fewer = drive(edit_directory(many.link.cid, {b"0": None}), remote._get)
    remote.store.update(fewer.blocks)
    outer = [drive(edit_directory(None, {b"in": link}), remote._get) for link in (many.link, fewer.link)]
    for built in outer:
        remote.store.update(built.blocks)
    remote.at = put(remote, remote.at, x=outer[0].link)
    here = await World(tmp_path / "here", remote).open()
    await here.rename("x", "y")
    remote.at = put(remote, remote.at, y=outer[1].link)
    done = await here.pusher().push()
    assert done is not None and len(done.conflicts) == 1
    here.close()
