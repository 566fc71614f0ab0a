"""What is kept of the base while changes wait: all that they stand on, from wherever it can be had, and nothing when none do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import cid_of, directory_block, drive, edit_directory, list_directory
from bucketfs.disk import Disk
from bucketfs.errors import DiskFailed, NoSpace
from bucketfs.sync import BasePinner
from bucketfs.sync import base_pinner as pinner_module
from bucketfs.types import Cid, Link

BIG = 300_000


def pinner(world: World) -> BasePinner:
    return BasePinner(world.volume, world.source)


async def bucket(tmp_path: Path) -> World:
    """A mount that has just been opened, of a bucket with d/a, d/b, d/e/f and x/y/z, all of them large."""
    remote = MemoryRemote()
    maker = await World(tmp_path / "maker", remote).open()
    for folder in ("d", "d/e", "x", "x/y"):
        await maker.mkdir(folder)
    for name in ("d/a", "d/b", "d/e/f", "x/y/z"):
        await maker.write(name, name.encode() * BIG)
    await maker.pusher().push()
    maker.close()
    return await World(tmp_path / "here", remote).open()


async def link(world: World, path: str) -> Cid:
    """What the base has at a path."""
    return (
        await world.volume.tree.base_tree.resolve(world.volume.base, [name.encode() for name in path.split("/") if name])
    ).cid


async def held(world: World) -> set[str]:
    """The paths of the base whose root blocks are kept."""
    paths = ["", "d", "d/a", "d/b", "d/e", "d/e/f", "x", "x/y", "x/y/z"]
    return {path for path in paths if await link(world, path) in world.journal.pins}


async def test_the_folders_above_a_change_are_kept(tmp_path: Path) -> None:
    """A replay looks up its paths in them."""
    here = await bucket(tmp_path)
    one = pinner(here)
    await here.write("d/e/new", b"new")
    assert one.waiting_count == 3
    await one.round()
    assert one.waiting_count == 0
    assert await held(here) == {"", "d", "d/e"}
    assert here.journal.pins.unsynced, "no program waits for it to be synced"


async def test_a_changed_file_is_kept_by_its_root_block_and_not_by_its_bytes(tmp_path: Path) -> None:
    """Enough to replay and rebase it, without a copy of a large file."""
    here = await bucket(tmp_path)
    await here.write("d/a", b"part", 5, truncate=False)
    await here.chmod("d/b", 0o600)
    await pinner(here).round()
    assert await held(here) == {"", "d", "d/a", "d/b"}
    assert here.journal.pins.size_bytes < 3000


async def test_of_what_was_moved_or_removed_all_folders_on_this_machine_are_kept(tmp_path: Path) -> None:
    """What others changed inside is compared with them."""
    here = await bucket(tmp_path)
    await here.tree()
    await here.rename("d", "moved")
    await here.unlink("x/y/z")
    await here.rmdir("x/y")
    await here.rmdir("x")
    await pinner(here).round()
    assert await held(here) == {"", "d", "d/e", "x", "x/y", "x/y/z"}


async def test_what_is_gone_from_one_name_and_stands_at_another_is_kept(tmp_path: Path) -> None:
    """A moved file is the same file to a rebase."""
    here = await bucket(tmp_path)
    await here.rename("d/a", "x/moved")
    await pinner(here).round()
    assert await held(here) == {"", "d", "d/a", "x"}


async def test_no_tree_is_fetched_for_having_it_renamed(tmp_path: Path) -> None:
    """Renaming a folder of 100 GB downloads nothing."""
    here = await bucket(tmp_path)
    await here.rename("d", "moved")
    asked: list[Cid] = []
    true_blocks = here.remote.blocks

    async def blocks(cids: Sequence[Cid]) -> dict[Cid, bytes]:
        asked.extend(cids)
        return await true_blocks(cids)

    here.remote.blocks = blocks  # type: ignore[assignment, method-assign]
    await pinner(here).round()
    assert asked == []
    assert await held(here) == {"", "d"}


async def test_nothing_is_kept_of_what_was_made_here(tmp_path: Path) -> None:
    """Pins cost room for old things only."""
    here = await bucket(tmp_path)
    await here.mkdir("new")
    await here.write("new/file", b"x" * BIG)
    await pinner(here).round()
    assert await held(here) == {""}
    assert len(here.journal.pins) == 1


async def test_every_shard_of_a_large_folder_is_kept(tmp_path: Path) -> None:
    """A folder of thousands of names is whole, or its names would count as removed."""
    remote = MemoryRemote()
    seed = b"s" * 32
    names = {f"{number:04d}-{'n' * 90}".encode(): Link(cid_of(seed), 32) for number in range(3000)}
    built = drive(edit_directory(None, names), lambda cids: {})
    root = drive(edit_directory(remote.at, {b"large": built.link}), lambda cids: {cid: remote.store[cid] for cid in cids})
    remote.store.update({**built.blocks, **root.blocks})
    remote.at = root.link.cid
    here = await World(tmp_path / "here", remote).open()
    assert len(built.blocks) > 100
    await here.write("large/new", b"new")
    await pinner(here).round()
    assert all(cid in here.journal.pins for cid in built.blocks)
    here.close()
    remote.store.clear()
    kept = await World(tmp_path / "here", remote).open()
    assert len(await kept.names("large")) == 3001


async def test_a_folder_that_a_small_cache_has_lost_is_rebuilt_from_what_is_shown(tmp_path: Path) -> None:
    """A small cache and a Hub that is away do not keep a change from being pinned."""
    here = await bucket(tmp_path)
    await here.tree()
    here.source.forget()
    here.remote.away = True
    await here.write("d/e/new", b"new")
    one = pinner(here)
    await one.round()
    assert await held(here) == {"", "d", "d/e"}
    assert one.waiting_count == 0


async def test_what_only_the_hub_has_is_kept_when_it_is_back(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    """A change made offline gets its pins as soon as that is possible."""
    here = await bucket(tmp_path)
    await here.tree()
    await here.write("d/a", b"part", 5, truncate=False)
    here.source.forget()
    here.remote.away = True
    one = pinner(here)
    await one.round()
    assert await held(here) == {"", "d"} and one.waiting_count == 1
    here.remote.away = False
    await one.round()
    assert one.waiting_count == 1, "a Hub that was away is left alone for a while"
    mock_clock.jump(pinner_module.RETRY_S)
    await one.round()
    assert await held(here) == {"", "d", "d/a"} and one.waiting_count == 0


async def test_what_has_waited_is_synced_and_what_is_pushed_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins outlive a power loss after some seconds, and take no room once all is at the Hub."""
    monkeypatch.setattr(pinner_module, "GATHER_S", 0.001)
    monkeypatch.setattr(pinner_module, "SYNC_AFTER_S", 0.01)
    here = await bucket(tmp_path)
    kept = here.journal.pins
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pinner(here).run)
        await here.write("d/new", b"new")
        await until(lambda: len(kept) == 2 and not kept.unsynced)
        await here.pusher().push()
        await until(lambda: kept.size_bytes == 0)
        nursery.cancel_scope.cancel()
    assert list((tmp_path / "here/journal/base").iterdir()) == []


async def test_the_end_leaves_nothing_that_is_not_kept_and_synced(tmp_path: Path) -> None:
    """After umount the cache may be deleted."""
    here = await bucket(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(pinner(here).run)
        await here.write("d/e/new", b"new")
        nursery.cancel_scope.cancel()
    assert await held(here) == {"", "d", "d/e"}
    assert not here.journal.pins.unsynced


async def until(what: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not what():  # noqa: ASYNC110, it is a thread's work that is waited for
            await trio.sleep(0.005)


async def test_after_a_rebase_the_new_base_is_kept(tmp_path: Path) -> None:
    """Changes stand on the new tree then, which may be collected, too."""
    here = await bucket(tmp_path)
    one = pinner(here)
    await here.unlink("d/a")
    await here.write("d/new", b"new")
    await one.round()
    before = {await link(here, ""), await link(here, "d")}
    there = await World(tmp_path / "there", here.remote).open()
    await there.write("d/theirs", b"theirs")
    await there.pusher().push()
    await here.pusher().rebaser.follow(here.remote.at)
    assert here.volume.root.dirty
    await one.round()
    after = {await link(here, ""), await link(here, "d")}
    assert not before & after
    assert all(cid in here.journal.pins for cid in after)


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """Pins of an earlier run count."""
    here = await bucket(tmp_path)
    await here.write("d/e/new", b"new")
    await pinner(here).round()
    needed = [await link(here, path) for path in ("", "d", "d/e")]
    here.close()
    here.remote.store.clear()
    again = await World(tmp_path / "here", here.remote).open()
    assert again.quarantined == []
    one = pinner(again)
    await one.round()
    assert all(cid in again.journal.pins for cid in needed) and one.waiting_count == 0
    assert await again.read("d/e/new") == b"new"


@pytest.mark.parametrize("error", [NoSpace("full"), DiskFailed("broken")])
async def test_a_disk_that_takes_nothing_is_said_once_and_tried_again(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk fills no log, and pins come when there is room."""
    here = await bucket(tmp_path)
    one = pinner(here)
    await here.write("d/e/new", b"new")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Disk, "write", fail)
        await one.round()
        await one.round()
    assert [record.message for record in caplog.records] == [
        f"bafzbeitest: blocks that changes need cannot be kept now: {error}"
    ]
    assert one.waiting_count == 3
    await one.round()
    assert await held(here) == {"", "d", "d/e"} and one.waiting_count == 0


async def test_what_a_failed_sync_may_have_lost_is_kept_anew(
    tmp_path: Path, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins that the disk may have dropped do not count as kept."""
    here = await bucket(tmp_path)
    one = pinner(here)
    await here.write("d/e/new", b"new")
    await one.round()

    def fail(*_: object) -> None:
        raise DiskFailed("broken")

    mock_clock.jump(pinner_module.SYNC_AFTER_S)
    with monkeypatch.context() as patched:
        patched.setattr(Disk, "fsync", fail)
        await one.round()
    assert await held(here) == set()
    await one.round()
    assert await held(here) == {"", "d", "d/e"}


def test_a_block_of_a_folder_says_what_it_names() -> None:
    """The pinner finds all shards of a folder, and no more."""
    link = Link(cid_of(b"x"), 1)
    plain = drive(edit_directory(None, {b"a": link}), lambda cids: {})
    inside = directory_block(plain.link.cid, plain.blocks[plain.link.cid])
    assert inside is not None and (list(inside.shards), list(inside.entries)) == ([], [link.cid])
    sharded = drive(edit_directory(None, {b"%d" % number: link for number in range(2000)}, threshold=100), lambda cids: {})
    shards = [sharded.link.cid]
    entries = 0
    for cid in shards:  # which grows on the way
        inside = directory_block(cid, sharded.blocks[cid])
        assert inside is not None
        shards += inside.shards
        entries += len(inside.entries)
    assert set(shards) == set(sharded.blocks) and entries == 2000
    assert (
        len(drive(list_directory(sharded.link.cid), lambda cids: {cid: sharded.blocks[cid] for cid in cids}).entries) == 2000
    )
    assert directory_block(cid_of(b"raw"), b"raw") is None
