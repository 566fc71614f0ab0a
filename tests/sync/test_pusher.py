"""Pushing and rebasing one volume against a Hub in memory."""

import os
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote, lose_the_answer, nothing
from support.world import World

from bucketfs.dag import cid_of, drive, reachable
from bucketfs.errors import Unavailable


async def grow(world: World) -> None:
    await world.mkdir("docs")
    await world.write("docs/a.txt", b"hello")
    await world.write("big", bytes(range(256)) * 4096)
    await world.symlink("link", "docs/a.txt")
    await world.mkdir("empty")
    await world.chmod("docs/a.txt", 0o600)
    await world.utime("docs/a.txt", 1_234_567_890_123_456_789)


async def test_a_push_carries_everything_and_leaves_nothing_dirty(tmp_path: Path) -> None:
    """Some kind of change would never reach the Hub, or be pushed for ever."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    before = await world.stat_tree()
    done = await world.pusher().push()
    assert done is not None and remote.at == done.root == world.volume.base
    assert not world.volume.root.dirty
    assert await world.stat_tree() == before
    assert await world.pusher().push() is None
    world.close()
    other = await World(tmp_path / "elsewhere", remote).open()
    assert await other.stat_tree() == before
    other.close()


async def test_a_kill_before_the_push_loses_nothing(tmp_path: Path) -> None:
    """What programs wrote before a kill would be gone."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    before = await world.stat_tree()
    world.close()
    again = await World(tmp_path, remote).open()
    assert again.quarantined == []
    assert await again.stat_tree() == before
    done = await again.pusher().push()
    assert done is not None and remote.at == done.root
    assert await again.stat_tree() == before
    again.close()


async def test_a_small_edit_of_a_large_file_sends_one_leaf(tmp_path: Path) -> None:
    """Each edit of a large file would upload all of it."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await world.write("big", b"x" * (8 << 20))
    pusher = world.pusher()
    await pusher.push()
    sent = remote.bytes_put
    await world.write("big", b"y" * 4096, offset=3 << 20, truncate=False)
    await pusher.push()
    assert remote.bytes_put - sent < 300_000
    expected = bytearray(b"x" * (8 << 20))
    expected[3 << 20 : (3 << 20) + 4096] = b"y" * 4096
    assert await world.read("big") == bytes(expected)
    world.close()


async def test_writes_during_a_push_stay_and_go_with_the_next(tmp_path: Path) -> None:
    """What is written while a push runs would be marked clean and lost."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    pusher = world.pusher()

    async def meanwhile() -> None:
        await world.write("docs/a.txt", b" again", offset=5, truncate=False)
        await world.unlink("big")
        await world.rename("empty", "docs/full")
        await world.write("docs/full/new", b"n")

    remote.before_swap = meanwhile
    await pusher.push()
    remote.before_swap = nothing
    assert world.volume.root.dirty
    now = await world.stat_tree()
    assert now["docs/a.txt"][0] == b"hello again"
    assert "big" not in now and "empty" not in now and "docs/full/new" in now
    world.close()
    again = await World(tmp_path, remote).open()
    assert await again.stat_tree() == now
    await again.pusher().push()
    again.close()
    other = await World(tmp_path / "elsewhere", remote).open()
    assert await other.stat_tree() == now
    other.close()


async def test_a_failed_push_keeps_all_and_the_next_one_carries_it(tmp_path: Path) -> None:
    """A push that failed would take changes with it."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    remote.away = True
    pusher = world.pusher()
    with pytest.raises(Unavailable):
        await pusher.push()
    await world.write("docs/a.txt", b"!", offset=5, truncate=False)
    remote.away = False
    before = await world.stat_tree()
    await pusher.push()
    assert not world.volume.root.dirty
    world.source.forget()
    assert await world.stat_tree() == before
    world.close()


async def test_two_mounts_with_changes_in_different_places_meet(tmp_path: Path) -> None:
    """Two mounts that changed different files would overwrite one another."""
    remote = MemoryRemote()
    one = await World(tmp_path / "1", remote).open()
    await grow(one)
    await one.pusher().push()
    two = await World(tmp_path / "2", remote).open()
    await two.tree()
    await one.write("docs/a.txt", b"one")
    await one.write("docs/only-one", b"1")
    await two.write("only-two", b"2")
    await two.unlink("big")
    await one.pusher().push()
    done = await two.pusher().push()
    assert done is not None and done.conflicts == []
    await one.pusher().rebaser.follow(remote.at)
    trees = [await one.stat_tree(), await two.stat_tree()]
    assert trees[0] == trees[1]
    assert trees[0]["docs/a.txt"][0] == b"one"
    assert "only-two" in trees[0] and "docs/only-one" in trees[0] and "big" not in trees[0]
    one.close()
    two.close()


async def test_two_edits_of_one_file_are_both_kept(tmp_path: Path) -> None:
    """Of two edits of one file one would be lost without a conflict copy."""
    remote = MemoryRemote()
    one = await World(tmp_path / "1", remote).open()
    await one.write("note.tar.gz", b"base")
    await one.pusher().push()
    two = await World(tmp_path / "2", remote).open()
    await one.write("note.tar.gz", b"one")
    await two.write("note.tar.gz", b"two")
    await one.pusher().push()
    done = await two.pusher().push()
    assert done is not None and len(done.conflicts) == 1
    (copy,) = done.conflicts
    assert copy.startswith("note (conflict ") and copy.endswith(").tar.gz")
    assert await two.read("note.tar.gz") == b"one"
    assert await two.read(copy) == b"two"
    await one.pusher().rebaser.follow(remote.at)
    assert await one.tree() == await two.tree()
    one.close()
    two.close()


async def test_a_kill_between_swap_and_checkpoint_makes_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill behind a push a mount would take its own push for that of another client."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    before = await world.stat_tree()
    pusher = world.pusher()

    async def die() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pusher.checkpoints, "write", die)
    with pytest.raises(KeyboardInterrupt):
        await pusher.push()
    world.close()
    again = await World(tmp_path, remote).open()
    done = await again.pusher().push()
    assert done is None or done.conflicts == []
    assert await again.stat_tree() == before
    assert not again.volume.root.dirty
    again.close()


@pytest.mark.parametrize("killed", [False, True])
async def test_a_swap_whose_answer_is_lost_makes_no_conflict(tmp_path: Path, killed: bool) -> None:
    """The Hub took the root, we never heard so, and went on writing: the older state at the Hub is our own."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await grow(world)
    await world.pusher().push()
    await world.write("docs/a.txt", b"first")
    await world.write("new", b"first")
    await world.rename("empty", "moved")

    async def before_swap() -> None:
        await world.write("docs/a.txt", b"second")

    async def after_swap() -> None:
        await world.write("new", b"second")
        await world.unlink("big")
        await lose_the_answer()

    remote.before_swap, remote.after_swap = before_swap, after_swap
    with pytest.raises(Unavailable):
        await world.pusher().push()
    remote.before_swap = remote.after_swap = nothing
    await world.write("later", b"later")
    await world.rename("moved", "docs/moved")
    before = await world.stat_tree()
    if killed:
        world.close()
        world = await World(tmp_path, remote).open()
    done = await world.pusher().push()
    assert done is not None and done.conflicts == []
    assert await world.stat_tree() == before
    other = await World(tmp_path / "elsewhere", remote).open()
    assert await other.stat_tree() == before
    world.close()
    other.close()


async def test_a_damaged_file_waits_alone(tmp_path: Path) -> None:
    """The Hub lost a leaf of a file that was written in part: that file cannot be pushed, and all others are."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    body = os.urandom(600_000)
    await world.write("big", body)
    await world.pusher().push()
    del remote.store[cid_of(body[262_144:524_288])]
    world.source.forget()
    await world.write("big", b"x" * 10, offset=300_000, truncate=False)
    await world.write("other", b"unrelated")
    pusher = world.pusher()
    await pusher.push()
    assert list(pusher.withheld.refused) == ["big"]
    other = await World(tmp_path / "elsewhere", remote).open()
    assert await other.read("other") == b"unrelated"
    other.close()
    world.close()


async def test_what_was_collected_under_a_rename_waits_alone(tmp_path: Path) -> None:
    """A folder renamed here while another client removed it, and the Hub has swept its blocks since."""
    remote = MemoryRemote()
    one = await World(tmp_path / "one", remote).open()
    await one.mkdir("d")
    await one.write("d/f", b"f" * 300_000)
    await one.pusher().push()
    two = await World(tmp_path / "two", remote).open()
    await two.rename("d", "e")
    await two.write("mine", b"mine")
    await one.unlink("d/f")
    await one.rmdir("d")
    await one.pusher().push()
    keep = drive(reachable(remote.at), lambda cids: {cid: remote.store[cid] for cid in cids})
    for cid in set(remote.store) - set(keep):
        del remote.store[cid]
    pusher = two.pusher()
    await pusher.push()
    assert list(pusher.withheld.refused) == ["e"]
    await one.pusher().rebaser.follow(remote.at)
    assert await one.tree() == {"mine": b"mine"}
    one.close()
    two.close()
