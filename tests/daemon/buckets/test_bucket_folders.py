"""The buckets of an all-buckets mount: their numbers, coming, going, and what is shown when one cannot be opened."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from support.manybuckets import ManyBuckets, MemorySession, many_buckets
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.daemon.buckets.deleted import deleted_buckets
from bucketfs.daemon.buckets.removals import recorded
from bucketfs.daemon.control.status import pending_status, removal_status
from bucketfs.dag import cid_text, empty_directory
from bucketfs.errors import Busy, Exists, NotEmpty, NotFound, Stale, Unavailable
from bucketfs.types import ROOT_INODE, BucketKey, Cid, Kind
from bucketfs.vfs import EntryChanged, RenameFlags, SetAttr


async def elsewhere(folder: Path, remote: MemoryRemote, files: dict[str, bytes]) -> None:
    """Another client pushes these files."""
    other = await World(folder, remote).open()
    for name, data in files.items():
        await other.write(name, data)
    await other.pusher().push()
    other.close()


@pytest.mark.parametrize("first", ["one", "two"])
async def test_a_lost_table_of_numbers_mixes_nothing_up(tmp_path: Path, first: str) -> None:
    """The journal of one bucket names numbers; no other bucket's file may be given one of them."""
    session = MemorySession()
    buckets = {name: session.make(name).key for name in ("one", "two")}
    old = {f"old{number}": b"old %d" % number for number in range(9)}
    await elsewhere(tmp_path / "other", session.remotes[buckets["one"]], old)
    async with many_buckets(tmp_path / "mount", session) as mount:
        for opened in mount.volumes.open.values():
            await opened.scheduler.drain()  # what is written from now on is not pushed
        for number in range(5):
            await mount.write(f"two/new{number}", b"NEW %d" % number)
        for name in old:  # replaying these takes them into memory, with numbers
            await mount.vfs.setattr(await mount.inode(f"one/{name}"), SetAttr(mode=0o600), None, ME)
    for file in (tmp_path / "mount").glob("inodes.db*"):
        file.unlink()
    for remote in session.remotes.values():
        remote.away = True  # so that nothing is pushed, and let go of, before it is looked at
    async with many_buckets(tmp_path / "mount", session, known=[session.info(buckets[first])]) as mount:
        await mount.listed()  # the other one comes when numbers were given out already
        assert {name: await mount.read(f"one/{name}") for name in old} == old
        assert [await mount.read(f"two/new{number}") for number in range(5)] == [b"NEW %d" % n for n in range(5)]
        inodes = [await mount.inode(f"one/{name}") for name in old]
        inodes += [await mount.inode(f"two/new{number}") for number in range(5)]
        assert len(set(inodes)) == len(inodes)


async def test_rmdir_looks_at_the_hub_first(tmp_path: Path) -> None:
    """Here the bucket is empty; there somebody put a file into it a moment ago."""
    session = MemorySession()
    info = session.make("theirs")
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names("theirs") == []
        await elsewhere(tmp_path / "other", session.remotes[info.key], {"f": b"precious"})
        with pytest.raises(NotEmpty):
            await mount.vfs.rmdir(ROOT_INODE, b"theirs", ME)
        assert info.key in session.remotes
        assert await mount.read("theirs/f") == b"precious"


async def test_rmdir_of_a_bucket_that_was_filled_while_it_waited(tmp_path: Path) -> None:
    """What others put into it was shown here after the look into it, and before the removal."""
    session = MemorySession()
    info = session.make("theirs")
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names("theirs") == []
        async with mount.folders._listing, trio.open_nursery() as nursery:

            async def remove() -> None:
                with pytest.raises(NotEmpty):
                    await mount.vfs.rmdir(ROOT_INODE, b"theirs", ME)

            nursery.start_soon(remove)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await elsewhere(tmp_path / "other", session.remotes[info.key], {"f": b"precious"})
            await mount.volumes.open[info.key].scheduler.drain()
            mount.folders._listing.release()
            await trio.testing.wait_all_tasks_blocked(0.01)
            await mount.folders._listing.acquire()
        assert info.key in session.remotes
        assert await mount.read("theirs/f") == b"precious"
        assert not mount.folders.removals.pending and not recorded(tmp_path / "mount")


def test_a_removal_that_was_being_written_down_is_none(tmp_path: Path) -> None:
    """A crash in the middle of `rmdir` would remove a bucket at the Hub although the command never succeeded, or stop the
    mount."""
    (tmp_path / "removing").mkdir()
    said = {"version": 1, "key": "k", "name": "b", "thread": "", "roots": [cid_text(empty_directory().link.cid)]}
    (tmp_path / "removing/k.new").write_text(json.dumps(said))
    assert recorded(tmp_path) == []
    (tmp_path / "removing/k").write_text(json.dumps(said))
    assert [removal.info.name for removal in recorded(tmp_path)] == ["b"]


async def rmdir_while_the_hub_is_away(mount: ManyBuckets, key: BucketKey) -> None:
    """Of bucket b with a file f that is not at the Hub."""
    await mount.write("b/f", b"x")
    mount.session.remotes[key].away = True
    with pytest.raises(NotEmpty):
        await mount.vfs.rmdir(ROOT_INODE, b"b", ME)
    await mount.vfs.unlink(await mount.inode("b"), b"f", ME)
    await mount.vfs.rmdir(ROOT_INODE, b"b", ME)
    assert await mount.names() == [] and key in mount.session.remotes


async def test_rmdir_while_the_hub_is_away(tmp_path: Path) -> None:
    """A bucket that was removed offline would come back by itself, or never be removed at the Hub."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(tmp_path / "mount", session) as mount:
        await rmdir_while_the_hub_is_away(mount, info.key)
        # A listing that was asked for before must not bring it back, nor one that still has it.
        await mount.folders.listed([info], trio.current_time())
        assert await mount.names() == []
        with pytest.raises(Unavailable):
            await mount.folders.removals.drain()
        session.remotes[info.key].away = False
        await mount.folders.removals.drain()
        assert session.remotes == {} and await mount.names() == []
        await mount.vfs.mkdir(ROOT_INODE, b"b", 0o755, ME)
        assert await mount.names() == ["b"]


async def test_rmdir_while_the_hub_is_away_is_made_after_a_restart(tmp_path: Path) -> None:
    """A bucket that was removed offline would be back after a restart of the mount."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(tmp_path / "mount", session) as mount:
        await rmdir_while_the_hub_is_away(mount, info.key)
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names() == []
        assert [one["name"] for one in map(removal_status, mount.folders.removals.pending.values())] == ["b"]
        session.remotes[info.key].away = False
        await mount.folders.removals.drain()
    assert session.remotes == {}
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names() == [] and not mount.folders.removals.pending
        assert deleted_buckets(tmp_path / "mount", [], None, info.thread) == [], (
            "nothing waits for a bucket that was removed"
        )


async def test_a_removed_bucket_that_somebody_filled_is_back(tmp_path: Path) -> None:
    """With what others put into it, and without what was removed here."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(tmp_path / "mount", session) as mount:
        await mount.write("b/old", b"old")
        await mount.volumes.open[info.key].scheduler.drain()
        await mount.vfs.unlink(await mount.inode("b"), b"old", ME)
        await elsewhere(tmp_path / "other", session.remotes[info.key], {"theirs": b"precious"})
        await rmdir_while_the_hub_is_away(mount, info.key)
        session.remotes[info.key].away = False
        with suppress(Busy):  # unless an attempt by itself was earlier
            await mount.folders.removals.drain()
        await mount.volumes.open[info.key].scheduler.drain()
        assert await mount.names() == ["b"] and await mount.names("b") == ["theirs"]
        assert await mount.read("b/theirs") == b"precious"
        assert not mount.folders.removals.pending


async def test_rmdir_of_a_bucket_ends_a_sync_that_waits_for_it(tmp_path: Path) -> None:
    """`bucketfs sync` would hang for ever on a bucket that was removed meanwhile."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(tmp_path / "mount", session) as mount:
        opened = mount.volumes.open[info.key]
        await mount.write("b/f", b"x")
        put, pushes = session.put, trio.Event()

        async def hanging(*_: object) -> None:
            pushes.set()
            await trio.sleep_forever()

        session.put = hanging  # type: ignore[assignment, method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.scheduler.drain)
            await pushes.wait()
            await mount.vfs.unlink(await mount.inode("b"), b"f", ME)
            await mount.vfs.rmdir(ROOT_INODE, b"b", ME)
        assert session.remotes == {}
        session.put = put  # type: ignore[method-assign]


async def test_a_bucket_made_while_a_listing_was_asked_for_stays(tmp_path: Path) -> None:
    """A bucket that was just made would vanish again, because a list that is older does not have it."""
    session = MemorySession()
    async with many_buckets(tmp_path / "mount", session) as mount:
        asked_s, listing = trio.current_time(), session.listing()
        await mount.vfs.mkdir(ROOT_INODE, b"new", 0o755, ME)
        await mount.folders.listed(listing, asked_s)
        assert await mount.names() == ["new"]
        await mount.write("new/f", b"x")


async def test_a_bucket_that_goes_during_a_sync(tmp_path: Path) -> None:
    """Its journal is closed when the sync is over, and not under it."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(tmp_path / "mount", session) as mount:
        opened = mount.volumes.open[info.key]
        await mount.write("b/f", b"x")
        await opened.scheduler.drain()
        folder = await mount.vfs.opendir(await mount.inode("b"), ME)
        del session.remotes[info.key]
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fsync_of_something_gone, mount.vfs.fsyncdir, folder)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(mount.folders.listed, [], trio.current_time())
        assert await mount.names() == []
        with pytest.raises(Stale):
            await opened.journal.sync()
        with pytest.raises(NotFound):
            await mount.inode("b")


async def fsync_of_something_gone(fsyncdir, folder) -> None:  # type: ignore[no-untyped-def]
    try:
        await fsyncdir(folder)
    except Stale:
        return


async def test_a_bucket_that_cannot_be_opened_is_a_folder_that_says_so(tmp_path: Path) -> None:
    """Were it missing, ``rsync --delete`` from the mount would delete what was copied from it before."""
    session = MemorySession()
    session.make("good")
    bad = session.make("bad")
    await elsewhere(tmp_path / "other", session.remotes[bad.key], {"f": b"precious"})
    session.remotes[bad.key].away = True
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names() == ["bad", "good"]
        inode = await mount.inode("bad")
        assert (await mount.vfs.getattr(inode)).kind is Kind.DIRECTORY
        mount.vfs.remember(inode)
        refused: list[Callable[[], Awaitable[object]]] = [
            partial(mount.vfs.lookup, inode, b"f"),
            partial(mount.vfs.opendir, inode, ME),
            partial(mount.vfs.create, inode, b"new", 0o644, os.O_WRONLY, ME),
            partial(mount.vfs.mkdir, inode, b"new", 0o755, ME),
            partial(mount.vfs.setattr, inode, SetAttr(mode=0o700), None, ME),
            partial(mount.vfs.rmdir, ROOT_INODE, b"bad", ME),
            partial(mount.vfs.rename, ROOT_INODE, b"bad", ROOT_INODE, b"new", RenameFlags.NONE, ME),
        ]
        for act in refused:
            with pytest.raises(Unavailable, match="cannot be opened now: the Hub is away"):
                await act()
        with pytest.raises(Exists):
            await mount.vfs.mkdir(ROOT_INODE, b"bad", 0o755, ME)
        (pending,) = mount.folders.pending.values()
        assert pending.info.key == bad.key
        assert pending_status(pending)["name"] == "bad" and "away" in pending_status(pending)["error"]
        assert pending.retry.next_try_s is not None

        session.remotes[bad.key].away = False
        await pending.ended.wait()
        assert await mount.read("bad/f") == b"precious" and await mount.inode("bad") == inode
        assert mount.told[-1] == EntryChanged(ROOT_INODE, b"bad")


async def test_a_damaged_bucket_is_shown_until_it_is_removed_or_mended(tmp_path: Path) -> None:
    """A bucket that cannot be opened would be hidden or look empty, would hide the others, or would not open once it is
    repaired."""
    session = MemorySession()
    bad, worse = session.make("bad"), session.make("worse")
    for info in (bad, worse):  # one root each, for the blocks of an empty one are shared
        await elsewhere(tmp_path / info.name, session.remotes[info.key], {info.name: b"x"})
    roots = {info.key: session.remotes[info.key].at for info in (bad, worse)}
    lost = {key: session.remotes[key].store.pop(root) for key, root in roots.items()}
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.names() == ["bad", "worse"]
        with pytest.raises(Unavailable, match="lacks a block"):
            await mount.names("bad")
        session.remotes[bad.key].store[roots[bad.key]] = lost[bad.key]
        del session.remotes[worse.key]
        pending = mount.folders.pending[bad.key]
        mount.folders.root_moved(bad.key)
        await pending.ended.wait()
        await mount.listed()
        assert await mount.names() == ["bad"] and await mount.names("bad") == ["bad"]
        assert not mount.folders.pending


async def test_a_bucket_that_is_slow_to_open_keeps_no_other_waiting(tmp_path: Path) -> None:
    """One slow bucket would make the whole mount, with all the others in it, unusable."""
    session = MemorySession()
    quick, slow = session.make("quick"), session.make("slow")
    await elsewhere(tmp_path / "other", session.remotes[slow.key], {"f": b"x"})
    get, release = session.get, trio.Event()

    async def late(cids: Collection[Cid]) -> dict[Cid, bytes]:
        if session.remotes[slow.key].at in cids:
            await release.wait()
        return await get(cids)

    session.get = late  # type: ignore[method-assign]
    async with many_buckets(tmp_path / "mount", session, known=[quick], open_patience_s=0.5) as mount:
        await mount.listed()
        assert await mount.names() == ["quick", "slow"] and quick.key in mount.volumes.open
        with pytest.raises(Unavailable, match="being opened"):
            await mount.names("slow")
        pending = mount.folders.pending[slow.key]
        release.set()
        await pending.ended.wait()
        assert await mount.names("slow") == ["f"]


async def test_a_bucket_that_is_called_otherwise(tmp_path: Path) -> None:
    """Its folder has the new name and is still the same folder: number, open files, what waits to be pushed."""
    session = MemorySession()
    info, other = session.make("old"), session.make("other")
    async with many_buckets(tmp_path / "mount", session) as mount:
        inode = await mount.inode("old")
        opened, _ = await mount.vfs.create(inode, b"f", 0o644, os.O_RDWR, ME)
        await mount.vfs.files.write(opened.handle, 0, b"one")
        session.names[info.key] = "new"
        mount.told.clear()
        await mount.listed()
        assert set(mount.told) == {EntryChanged(ROOT_INODE, b"old"), EntryChanged(ROOT_INODE, b"new")}
        assert await mount.names() == ["new", "other"] and await mount.inode("new") == inode
        await mount.vfs.files.write(opened.handle, 3, b" two")
        await mount.vfs.files.release(opened.handle)
        assert await mount.read("new/f") == b"one two" and mount.volumes.open[info.key].scheduler.dirty
        # Two at once that take each other's name.
        session.names[info.key], session.names[other.key] = "other", "new"
        await mount.listed()
        assert await mount.inode("other") == inode and await mount.read("other/f") == b"one two"
        # One name for both.
        session.names[other.key] = "other"
        await mount.listed()
        assert await mount.names() == ["other", f"other ({other.key[-8:]})"] and await mount.inode("other") == inode
        session.names[other.key] = "third"
        await mount.listed()
        assert await mount.names() == ["other", "third"]
    async with many_buckets(tmp_path / "mount", session) as mount:
        assert await mount.inode("other") == inode and await mount.read("other/f") == b"one two"


async def test_a_bucket_is_called_otherwise_before_it_can_be_opened(tmp_path: Path) -> None:
    """A bucket that was renamed at the Hub would be shown twice, or with its former name, or not open any more."""
    session = MemorySession()
    bad = session.make("bad")
    await elsewhere(tmp_path / "other", session.remotes[bad.key], {"f": b"precious"})
    session.remotes[bad.key].away = True
    async with many_buckets(tmp_path / "mount", session) as mount:
        inode = await mount.inode("bad")
        session.names[bad.key] = "better"
        await mount.listed()
        assert await mount.names() == ["better"] and await mount.inode("better") == inode
        pending = mount.folders.pending[bad.key]
        session.remotes[bad.key].away = False
        mount.folders.root_moved(bad.key)
        await pending.ended.wait()
        assert await mount.read("better/f") == b"precious" and await mount.inode("better") == inode
