"""Files that change or go while a push reads them, and drafts that are freed meanwhile: a push carries the moment that it froze, or
begins anew with a later one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.client import PutResult
from bucketfs.types import Cid, UploadId

MIB = 1 << 20
LARGE = random.Random(1).randbytes(20 * MIB)
SMALL = random.Random(2).randbytes(3 * MIB)


def at_the_first_batch(remote: MemoryRemote, act: Callable[[], Awaitable[None]]) -> list[int]:
    """Have ``act`` done when the Hub has the first batch of a push. How many bytes each Put brought."""
    puts: list[int] = []
    acted: list[bool] = []
    put = remote.put

    async def acting(batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        puts.append(0)

        async def passing() -> AsyncIterable[Sequence[tuple[Cid, bytes]]]:
            async for batch in batches:
                puts[-1] += sum(len(data) for _, data in batch)
                yield batch
                if not acted:
                    acted.append(True)
                    await act()

        return await put(passing(), upload)

    remote.put = acting  # type: ignore[method-assign]
    return puts


async def forgotten(world: World, *paths: str) -> None:
    """Nothing in the kernel holds these any more, as after rm."""
    for path in paths:
        inode = await world.inode(path)
        await world.unlink(path)
        node = world.volume.tree.registry[inode]
        world.vfs.forget([(inode, node.lookups)])


async def theirs(folder: Path, remote: MemoryRemote) -> dict[str, object]:
    """What another client sees."""
    other = await World(folder, remote).open()
    found = await other.tree()
    other.close()
    return found


@pytest.mark.parametrize("before", [False, True], ids=["new", "changed"])
@pytest.mark.parametrize("short", [False, True], ids=["room", "no room"])
async def test_a_file_is_removed_while_it_is_pushed(tmp_path: Path, before: bool, short: bool) -> None:
    """The push has more to carry than what was removed, so it goes on, with all of its moment; but where its room is wanted it is
    begun anew. There is no root that was no moment of the bucket."""
    remote = MemoryRemote()
    world = await World(tmp_path / "world", remote).open()
    pusher = world.pusher()
    if before:
        await world.write("d gone", b"it was there before")
        await pusher.push()
    # A new file that was made first is built last, and one that was there before is built first, and is in the midst of it.
    await world.write("d gone", LARGE)
    await world.write("e kept", SMALL[::-1])
    others = {name: LARGE[: 10 * MIB] + name.encode() for name in "abc"}
    for name, data in others.items():
        await world.write(name, data)
    frozen = {"d gone": LARGE, "e kept": SMALL[::-1], **others}
    now = {"e kept": b"changed" + SMALL[::-1][7:], **others}
    drafts = len(world.volume.journal.drafts.all())

    async with trio.open_nursery() as nursery:

        async def act() -> None:
            await forgotten(world, "d gone")
            await world.write("e kept", b"changed", truncate=False)
            if short:
                nursery.start_soon(pusher.checkpoints.free_drafts)

        at_the_first_batch(remote, act)
        assert await pusher.push() is not None
    assert await theirs(tmp_path / "then", remote) == (now if short else frozen)
    assert not short or len(world.volume.journal.drafts.all()) < drafts
    await pusher.push()
    assert await theirs(tmp_path / "after", remote) == now == await world.tree()
    world.close()


async def test_a_push_that_lost_most_of_it_is_begun_anew(tmp_path: Path) -> None:
    """A push would go on for minutes with files that were removed, while what replaced them waits."""
    remote = MemoryRemote()
    world = await World(tmp_path / "world", remote).open()
    pusher = world.pusher()
    await world.write("large", LARGE)
    await world.write("small", SMALL)

    async def act() -> None:
        await forgotten(world, "large")

    puts = at_the_first_batch(remote, act)
    assert await pusher.push() is not None
    assert puts[0] < 12 * MIB and remote.bytes_put < 18 * MIB
    assert await theirs(tmp_path / "other", remote) == {"small": SMALL} == await world.tree()
    assert await pusher.push() is None
    world.close()


async def test_a_file_is_cut_while_it_is_pushed(tmp_path: Path) -> None:
    """And its room wanted back: the push still reads what it froze."""
    remote = MemoryRemote()
    world = await World(tmp_path / "world", remote).open()
    pusher = world.pusher()
    await world.write("f", LARGE)

    async def act() -> None:
        await world.write("f", b"short")
        await pusher.checkpoints.free_drafts()

    at_the_first_batch(remote, act)
    assert await pusher.push() is not None
    assert await theirs(tmp_path / "then", remote) == {"f": LARGE}
    assert await world.read("f") == b"short"
    await pusher.push()
    assert await theirs(tmp_path / "after", remote) == {"f": b"short"}
    assert len(world.volume.journal.drafts.all()) == 0
    world.close()


async def test_a_file_is_replaced_while_it_is_pushed(tmp_path: Path) -> None:
    """As editors save: there is no root without the file."""
    remote = MemoryRemote()
    world = await World(tmp_path / "world", remote).open()
    pusher = world.pusher()
    await world.write("f", b"first")
    await pusher.push()
    await world.write("f", SMALL)
    await world.write("other", LARGE)

    async with trio.open_nursery() as nursery:

        async def act() -> None:
            await world.write("f.new", b"second")
            await world.rename("f.new", "f")
            nursery.start_soon(pusher.checkpoints.free_drafts)

        at_the_first_batch(remote, act)
        await pusher.push()
    assert await theirs(tmp_path / "then", remote) in ({"f": SMALL, "other": LARGE}, {"f": b"second", "other": LARGE})
    await pusher.push()
    assert await theirs(tmp_path / "after", remote) == {"f": b"second", "other": LARGE}
    world.close()
