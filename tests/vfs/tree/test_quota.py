"""BatchLimits of the Hub, answered before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.errors import NoSpace, OverQuota
from bucketfs.vfs import StorageLimit


async def test_writes_stop_at_the_limit_and_go_on_below_it(tmp_path: Path) -> None:
    """A program would be told that a write succeeded which the Hub has no room for."""
    world = await World(tmp_path, MemoryRemote()).open()
    account, bucket = StorageLimit("the account", 1000, 300), StorageLimit("bucket 'b'", 600, 0)
    world.volume.push.limits = (account, bucket)
    await world.write("a", bytes(500))
    assert (account.left_bytes, bucket.left_bytes) == (200, 100)
    with pytest.raises(OverQuota, match="bucket 'b' may hold 600 bytes, and 100 are left"):
        await world.write("b", bytes(101))
    await world.write("b", bytes(100))
    await world.write("a", b"over", offset=100, truncate=False)
    with pytest.raises(OverQuota):
        await world.truncate("a", 501)
    await world.truncate("a", 400)
    assert bucket.left_bytes == 100
    await world.rename("b", "a")
    assert bucket.left_bytes == 500
    await world.write("c", bytes(500))

    await world.pusher().push()
    assert (account.used_bytes, account.grown_bytes, bucket.used_bytes, bucket.grown_bytes) == (900, 0, 600, 0)
    with pytest.raises(OverQuota):
        await world.write("d", b"x")
    await world.unlink("c")
    await world.write("d", b"x")
    world.close()


async def test_an_unlinked_open_file_takes_no_room_at_the_hub(tmp_path: Path) -> None:
    """Temporary files that are unlinked at once would use up the quota."""
    world = await World(tmp_path, MemoryRemote()).open()
    room = StorageLimit("the account", 100, 0)
    world.volume.push.limits = (room,)
    await world.write("a", bytes(50))
    opened = await world.vfs.open(await world.inode("a"), 2, None)  # type: ignore[arg-type]
    await world.unlink("a")
    await world.vfs.files.write(opened.handle, 0, bytes(5000))
    assert room.left_bytes == 100
    await world.vfs.files.release(opened.handle)
    world.close()


async def test_room_is_given_back_when_nothing_could_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refused write would use up quota until the next mount."""
    world = await World(tmp_path, MemoryRemote()).open()
    room = StorageLimit("the account", 1000, 0)
    world.volume.push.limits = (room,)
    await world.write("a", bytes(100))

    def full(*_: object, **__: object) -> None:
        raise NoSpace("no room")

    with monkeypatch.context() as patch:
        patch.setattr(world.journal, "append", full)
        for size in (500, 20):
            with pytest.raises(NoSpace):
                await world.truncate("a", size)
            assert (room.left_bytes, len(await world.read("a"))) == (900, 100)
    await world.truncate("a", 500)
    assert room.left_bytes == 500
    world.close()
