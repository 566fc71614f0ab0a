"""Writes that fail, without a kernel: what is refused after them, what is cut off, who is told, and in which order writes come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.errors import BucketfsError, Corrupt, Denied, DiskFailed, NoSpace, OverQuota, ReadOnly
from bucketfs.types import FileHandle, Inode
from bucketfs.vfs import AttributesChanged, ContentLost, FileNode, Invalidation, SetAttr, Volume

ERRORS = [NoSpace, OverQuota, DiskFailed, Corrupt, Denied, ReadOnly]


class Failing:
    """Writes from ``first`` on fail with ``error`` while it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: type[BucketfsError] | None = None
        self.first = 4
        true = Volume.write

        def write(volume: Volume, node: FileNode, offset: int, data: bytes) -> None:
            if self.error is not None and offset + len(data) > self.first:
                raise self.error("refused")
            true(volume, node, offset, data)

        monkeypatch.setattr(Volume, "write", write)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


class Slow(World):
    """The kernel takes its time: it does what it is told when ``settle`` is called."""

    def _hear(self, news: Invalidation) -> None:
        self.told.append(news)

    def settle(self, inode: Inode) -> None:
        node = self.vfs.registry[inode]
        assert isinstance(node, FileNode)
        self.vfs.failures.mended(node)


async def opened(world: World, path: str, flags: int = os.O_RDWR) -> FileHandle:
    return (await world.vfs.open(await world.inode(path), flags, ME)).handle


@pytest.mark.parametrize("error", ERRORS)
async def test_every_error_breaks_the_file_until_the_kernel_is_right(
    tmp_path: Path, failing: Failing, error: type[BucketfsError]
) -> None:
    """After a failed write the kernel would write the pages behind the lost ones, and leave a hole in the file."""
    here = Slow(tmp_path / "here", MemoryRemote())
    await here.open()
    await here.write("f", b"abcd")
    inode = await here.inode("f")
    first, second = await opened(here, "f"), await opened(here, "f")
    failing.error = error
    with pytest.raises(error):
        await here.vfs.files.write(first, 4, b"efgh")
    assert ContentLost(inode) in here.told
    failing.error = None
    assert not (await here.vfs.getattr(inode)).settled
    with pytest.raises(error):  # it comes out of the same pages
        await here.vfs.files.write(second, 0, b"A")
    with pytest.raises(error):
        await here.vfs.setattr(inode, SetAttr(size_bytes=8), first, ME)
    here.settle(inode)
    assert (await here.vfs.getattr(inode)).settled
    with pytest.raises(error):  # it would leave a hole in the place of what was lost
        await here.vfs.files.write(first, 6, b"gh")
    here.settle(inode)
    assert await here.vfs.files.write(second, 4, b"E") == 1
    for handle in (first, second):
        with pytest.raises(error):
            await here.vfs.files.flush(handle)
        await here.vfs.files.flush(handle)
        await here.vfs.files.release(handle)
    with pytest.raises(error):
        await here.read("f")
    assert await here.read("f") == b"abcdE"
    # With all who lost something gone, a hole is what the program means.
    handle = await opened(here, "f")
    await here.vfs.files.write(handle, 6, b"gh")
    await here.vfs.files.release(handle)
    assert await here.read("f") == b"abcdE\0gh"
    here.close()


async def test_who_begins_anew_is_told_nothing(tmp_path: Path, failing: Failing) -> None:
    """A program that replaces the file would be given the error of bytes that it does not need."""
    here = Slow(tmp_path / "here", MemoryRemote())
    await here.open()
    await here.write("f", b"abcd")
    handle = await opened(here, "f")
    failing.error = NoSpace
    with pytest.raises(NoSpace):
        await here.vfs.files.write(handle, 4, b"efgh")
    await here.vfs.files.release(handle)
    failing.error = None
    # The kernel locks a file that it opens with O_TRUNC, so this must not wait for it.
    with trio.fail_after(5):
        await here.write("f", b"new")
    assert await here.read("f") == b"new"
    here.close()


async def test_what_was_told_outlives_the_memory_of_the_kernel(tmp_path: Path, failing: Failing) -> None:
    """A program would hear of lost bytes twice, or not at all, when the kernel forgot the file between."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    await here.write("f", b"abcd")
    inode = await here.inode("f")
    handle = await opened(here, "f")
    failing.error = NoSpace
    with pytest.raises(NoSpace):
        await here.vfs.files.write(handle, 4, b"efgh")
    failing.error = None
    await here.vfs.files.release(handle)
    here.vfs.forget([(inode, 100)])
    with pytest.raises(NoSpace):
        await here.read("f")
    assert await here.read("f") == b"abcd"
    here.close()


@pytest.mark.parametrize("confirm", [None, "flush", "fsync"])
async def test_room_that_was_not_filled_is_cut_off_unless_it_was_meant(
    tmp_path: Path, failing: Failing, confirm: str | None
) -> None:
    """A file would end in zeros where the lost bytes belong, and compare as complete; or a wanted hole would be cut
    off."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    await here.write("f", b"ab")
    inode = await here.inode("f")
    handle = await opened(here, "f")
    await here.vfs.setattr(inode, SetAttr(size_bytes=8), handle, ME)
    if confirm == "flush":
        await here.vfs.files.flush(handle)
    if confirm == "fsync":
        await here.vfs.files.fsync(handle, False)
    await here.vfs.files.write(handle, 2, b"cd")
    failing.error = NoSpace
    with pytest.raises(NoSpace):
        await here.vfs.files.write(handle, 4, b"efgh")
    failing.error = None
    await here.vfs.files.release(handle)
    with pytest.raises(NoSpace):
        await here.read("f")
    expected = b"abcd" if confirm is None else b"abcd\0\0\0\0"
    assert await here.read("f") == expected
    here.close()
    again = await World(tmp_path / "here", here.remote).open()
    assert await again.read("f") == expected
    again.close()


async def test_a_write_does_not_overtake_one_that_waits_for_room(tmp_path: Path, failing: Failing) -> None:
    """A later, smaller write would find room where the one before it found none, and leave a hole."""
    asked, answered = trio.Event(), trio.Event()

    class Full(World):
        async def make_room(self, size_bytes: int) -> int:
            asked.set()
            await answered.wait()
            return 0

    here = await Full(tmp_path / "here", MemoryRemote()).open()
    await here.write("f", b"")
    handle = await opened(here, "f")
    failing.error, failing.first = NoSpace, 0

    async def first() -> None:
        with pytest.raises(NoSpace):
            await here.vfs.files.write(handle, 0, b"abcd")

    async def second() -> None:
        with pytest.raises(NoSpace):
            await here.vfs.files.write(handle, 4, b"e")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await asked.wait()
            failing.error = None
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            failing.error = NoSpace
            answered.set()
    await here.vfs.files.release(handle)
    assert (await here.vfs.getattr(await here.inode("f"))).size_bytes == 0
    here.close()


async def test_a_file_that_the_mount_cannot_open_is_kept_from_others_until_it_is_closed(
    tmp_path: Path, failing: Failing
) -> None:
    """Another program would read a file with a length that the kernel believes and the disk does not have."""
    here = Slow(tmp_path / "here", MemoryRemote())
    await here.open()
    await here.write("f", b"abcd")
    inode = await here.inode("f")
    handle = await opened(here, "f")
    failing.error = NoSpace
    with pytest.raises(NoSpace):
        await here.vfs.files.write(handle, 4, b"efgh")
    failing.error = None
    here.vfs.failures.end(inode, told=False)
    for _ in range(2):
        with pytest.raises(NoSpace):
            await opened(here, "f", os.O_RDONLY)
    await here.vfs.files.release(handle)
    assert await here.inode("f") != inode
    assert await here.read("f") == b"abcd"
    assert AttributesChanged(inode) not in here.told
    here.close()
