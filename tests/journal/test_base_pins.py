"""The blocks kept beside a journal: what a kill, a power loss and a full or failing disk leave of them, for a stop at every
call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.dag import cid_of
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import DiskFailed, NoSpace
from bucketfs.journal import PinnedBlocks
from bucketfs.journal import base_pins as base_module
from bucketfs.types import Cid

Blocks = dict[Cid, bytes]


def block(number: int, size: int = 400) -> bytes:
    return bytes([number]) * size


def blocks(*numbers: int, size: int = 400) -> Blocks:
    return {cid_of(block(number, size)): block(number, size) for number in numbers}


EVERYTHING = blocks(*range(10)) | blocks(*range(10), size=9_000)


def opened(disk: Disk) -> PinnedBlocks:
    kept = PinnedBlocks(disk, "/journal/base")
    kept.open()
    return kept


def new_disk(**settings: object) -> FaultyDisk:
    disk = FaultyDisk(**settings)  # type: ignore[arg-type]
    disk.make_durable_folder("/journal")
    return disk


async def found(disk: Disk) -> Blocks:
    """What the next run has; all of it is right."""
    kept = opened(disk)
    there = await kept.get_many(list(EVERYTHING))
    assert there == {cid: EVERYTHING[cid] for cid in there}
    assert set(there) == {cid for cid in EVERYTHING if cid in kept}
    kept.close()
    return there


class History:
    """Keeps and drops blocks, and knows what must be there: ``taken`` after a kill, ``safe`` after a power loss."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.taken: Blocks = {}
        self.safe: Blocks = {}

    async def keep(self, kept: PinnedBlocks, new: Blocks) -> None:
        await kept.keep(new)
        self.taken |= new

    async def sync(self, kept: PinnedBlocks) -> None:
        await kept.sync()
        self.safe = dict(self.taken)

    async def retain(self, kept: PinnedBlocks, needed: Blocks) -> None:
        # From here on the others may be gone.
        self.taken = {cid: self.taken[cid] for cid in needed}
        self.safe = {cid: data for cid, data in self.safe.items() if cid in needed}
        await kept.retain(needed.keys())

    async def play(self) -> None:
        kept = opened(self.disk)
        await self.keep(kept, blocks(1, 2))
        await self.sync(kept)
        await self.keep(kept, blocks(2, 3))
        kept.close()
        kept = opened(self.disk)
        await self.keep(kept, blocks(4, 5) | blocks(5, 6, 7, size=9_000))
        await self.sync(kept)
        await self.retain(kept, blocks(1, 3, 5) | blocks(5, 6, size=9_000))
        await self.retain(kept, blocks(1, 3))  # worth the writing
        await self.keep(kept, blocks(8))
        await self.retain(kept, blocks(1, 8))
        await self.sync(kept)
        await self.retain(kept, {})
        await self.keep(kept, blocks(9))
        await self.sync(kept)
        kept.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "SPARE_BYTES", 10_000)


async def test_what_was_kept_is_there_until_it_is_not_needed() -> None:
    """A rebase after a deleted cache finds the old folders, and a disk gets their room back in the end."""
    disk = new_disk()
    history = History(disk)
    await history.play()
    assert await found(disk) == blocks(9)
    assert len([path for path in disk.everything() if path.startswith("/journal/base/")]) == 1
    assert disk.open_files() == 0


async def test_a_stop_at_every_call() -> None:
    """A kill or power loss at any disk call never makes a wrong block of a right one, and takes none that was synced."""
    whole = new_disk()
    await History(whole).play()
    assert len(whole.calls) > 20
    for stop_at in range(1, len(whole.calls) + 1):
        for stop_after in (False, True):
            disk = new_disk(stop_at=stop_at, stop_after=stop_after)
            history = History(disk)
            with pytest.raises(Stopped):
                await history.play()
            assert history.taken.items() <= (await found(disk.after_kill())).items(), f"killed in call {stop_at}"
            for seed in (None, 1, 2):
                left = await found(disk.after_power_loss(seed))
                assert history.safe.items() <= left.items(), f"power lost in call {stop_at}"


async def test_a_failed_call_leaves_what_was_there() -> None:
    """An error of the disk in one call does not cost the blocks that are kept already."""
    whole = new_disk()
    await History(whole).play()
    for number, call in enumerate(whole.calls, 1):
        for error in (NoSpace("full"), DiskFailed("broken")):
            disk = new_disk(fail_at={number: error})
            history = History(disk)
            try:
                await history.play()
            except (NoSpace, DiskFailed):
                # A failed sync proves nothing of what was written before it; what an earlier one had said stays true.
                assert history.safe.items() <= (await found(disk.after_power_loss())).items(), (number, call)


async def test_after_a_failed_rewriting_a_sync_meets_no_closed_file() -> None:
    """The disk fails while blocks that are needed still are copied; the sync that comes next must find what is there."""
    for number in range(1, 60):
        disk = new_disk()
        kept = opened(disk)
        await kept.keep(blocks(1, size=200_000))
        await kept.keep(blocks(2, size=9_000_000))
        disk.fail_at = {len(disk.calls) + number: DiskFailed("broken")}
        try:
            await kept.retain(blocks(1, size=200_000))
        except DiskFailed:
            disk.fail_at = {}
            await kept.keep(blocks(3))
            await kept.sync()
            assert await kept.get_many(list(blocks(1, size=200_000))) == blocks(1, size=200_000)
        else:
            return
    raise AssertionError("the rewriting never ended")


async def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_room() -> None:
    """On a full disk blocks are kept later, and none are torn."""
    disk = new_disk(capacity_bytes=1000)
    kept = opened(disk)
    await kept.keep(blocks(1))
    with pytest.raises(NoSpace):
        await kept.keep(blocks(2, size=9_000))
    assert await kept.get_many(list(EVERYTHING)) == blocks(1)
    disk.capacity_bytes = None
    await kept.keep(blocks(2, size=9_000))
    assert await kept.get_many(list(EVERYTHING)) == blocks(1) | blocks(2, size=9_000)
    kept.close()
    assert await found(disk) == blocks(1) | blocks(2, size=9_000)


async def test_what_a_failed_fsync_may_have_lost_is_kept_anew() -> None:
    """A second fsync would lie: what the first one may have lost must not count as kept."""
    disk = new_disk()
    kept = opened(disk)
    await kept.keep(blocks(1))
    disk.fail_at[len(disk.calls) + 1] = DiskFailed("broken")
    with pytest.raises(DiskFailed):
        await kept.sync()
    assert len(kept) == 0
    await kept.keep(blocks(1))
    await kept.sync()
    kept.close()
    assert await found(disk.after_power_loss()) == blocks(1)


async def damaged(tmp_path: Path, change: Callable[[Path], object]) -> Blocks:
    (tmp_path / "base").mkdir()
    kept = PinnedBlocks(Disk(), tmp_path / "base")
    await kept.keep(blocks(1, 2, 3))
    kept.close()
    (pack,) = (tmp_path / "base").iterdir()
    change(pack)
    kept = PinnedBlocks(Disk(), tmp_path / "base")
    kept.open()
    there = await kept.get_many(list(EVERYTHING))
    kept.close()
    return there


async def test_a_wrong_byte_is_never_handed_out(tmp_path: Path) -> None:
    """A folder spoiled by the disk would show wrong names, and a push would store them."""

    def spoil(pack: Path) -> None:
        data = bytearray(pack.read_bytes())
        data[data.index(block(2)) + 7] ^= 1
        pack.write_bytes(data)

    assert await damaged(tmp_path, spoil) == blocks(1, 3)


async def test_a_file_is_read_up_to_what_is_torn(tmp_path: Path) -> None:
    """What a kill cut short costs only what it cut."""
    assert await damaged(tmp_path, lambda pack: pack.write_bytes(pack.read_bytes()[:-10])) == blocks(1, 2)


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """A user who goes back to an older bucketfs loses no pins of the newer one."""

    def renew(pack: Path) -> None:
        pack.write_bytes(b"bucketfs-base 2\n" + pack.read_bytes()[16:])

    assert await damaged(tmp_path, renew) == {}
    (pack,) = (tmp_path / "base").iterdir()
    assert pack.read_bytes().startswith(b"bucketfs-base 2\n")


async def test_a_file_that_cannot_be_read_is_as_if_it_was_not_there(tmp_path: Path) -> None:
    """A bad sector below the pins must not keep the bucket from being opened."""
    (tmp_path / "base").mkdir()
    kept = PinnedBlocks(Disk(), tmp_path / "base")
    await kept.keep(blocks(1))
    kept.close()
    (tmp_path / "base/00000001").rename(tmp_path / "base/00000002")
    (tmp_path / "base/00000001").mkdir()
    kept = PinnedBlocks(Disk(), tmp_path / "base")
    kept.open()
    await kept.keep(blocks(2))
    assert await kept.get_many(list(EVERYTHING)) == blocks(1, 2)
    kept.close()


async def test_a_disk_that_fails_in_reading_leaves_what_it_gives() -> None:
    """One unreadable block does not take the others along."""
    disk = new_disk()
    for number in (1, 2):
        kept = opened(disk)
        await kept.keep(blocks(number))
        kept.close()
    true_pread, calls = disk.pread, 0

    def pread(file: DiskFile, offset: int, size: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 2:  # in the middle of the first file
            raise DiskFailed("broken")
        return true_pread(file, offset, size)

    disk.pread = pread  # type: ignore[method-assign]
    kept = opened(disk)
    assert await kept.get_many(list(EVERYTHING)) == blocks(2)
    kept.close()
    assert disk.open_files() == 0


@pytest.mark.parametrize("act", [lambda kept: kept.keep(blocks(2)), lambda kept: kept.sync(), lambda kept: kept.retain(())])
async def test_after_the_end_nothing_is_done(act: Callable[[PinnedBlocks], Awaitable[None]]) -> None:
    """A bucket that left the mount writes nothing behind its back."""
    disk = new_disk()
    kept = opened(disk)
    await kept.keep(blocks(1))
    kept.close()
    await act(kept)
    assert await kept.get_many(list(EVERYTHING)) == {}
    assert await found(disk) == blocks(1)
