"""The block cache: what a reader gets, how often the source below is asked, and that no trouble of the disk gets out."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from support.dict_source import DictSource

from bucketfs.cache import BlockCache, Source
from bucketfs.cache.disk_tier import QUEUE_BYTES
from bucketfs.dag import DAG_PB, cid_of, verify
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import Corrupt, DiskFailed, NoSpace, NotFound, Unavailable
from bucketfs.types import Cid

MEMORY = 1 << 20
DISK = 1 << 26


def block(number: int, size: int) -> tuple[Cid, bytes]:
    data = random.Random(number).randbytes(size)
    return cid_of(data), data


SMALL = dict(block(number, 900 + number) for number in range(40))
LARGE = dict(block(number, 20_000 + number) for number in range(40))
BLOCKS = SMALL | LARGE
CIDS = list(BLOCKS)


class Below(DictSource):
    """Takes a moment, may be held, and may fail."""

    def __init__(self, blocks: dict[Cid, bytes] | None = None) -> None:
        super().__init__(BLOCKS if blocks is None else blocks)
        self.gate = trio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        self.asked.append(tuple(cids))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.asked.pop()
        return await super().get_many(cids)


@pytest.fixture
def below() -> Below:
    return Below()


@pytest.fixture(params=["dict", "memory", "disk"])
async def source(request: pytest.FixtureRequest, below: Below, tmp_path: Path) -> Source:
    if request.param == "dict":
        return below
    cache = BlockCache(below, tmp_path / "cache" if request.param == "disk" else None, MEMORY, DISK)
    if request.param == "disk":
        await cache.open()
        cache.put_many(list(BLOCKS.items())[::2])
        await cache.flush()
    return cache


class TestTheContractOfASource:
    async def test_get(self, source: Source) -> None:
        """A reader gets the bytes it asked for, wherever they were."""
        for cid, data in BLOCKS.items():
            assert await source.get(cid) == data

    async def test_get_many(self, source: Source) -> None:
        """Many blocks at once are the same bytes as one by one."""
        assert await source.get_many([]) == {}
        assert await source.get_many(CIDS[3:9] + CIDS[3:4]) == {cid: BLOCKS[cid] for cid in CIDS[3:9]}

    async def test_not_found(self, source: Source) -> None:
        """A block that no source has is an error, not empty bytes."""
        absent = cid_of(b"nobody has this")
        with pytest.raises(NotFound):
            await source.get(absent)
        with pytest.raises(NotFound):
            await source.get_many([CIDS[0], absent])
        assert await source.get(CIDS[0]) == BLOCKS[CIDS[0]]

    async def test_peek_never_waits(self, source: Source) -> None:
        """A look into memory does not touch disk or network."""
        assert source.peek(CIDS[1]) in (None, BLOCKS[CIDS[1]])
        assert source.peek(cid_of(b"nobody has this")) is None


class TestMemory:
    async def test_a_hit_does_not_let_others_run(self, below: Below) -> None:
        """Reading cached content costs no turn of the event loop."""
        cache = BlockCache(below, None, MEMORY, 0)
        await cache.get_many(CIDS[:4])
        with trio.testing.assert_no_checkpoints():
            assert await cache.get(CIDS[0]) == BLOCKS[CIDS[0]]
            assert len(await cache.get_many(CIDS[:4])) == 4
        assert cache.peek(CIDS[0]) == BLOCKS[CIDS[0]]
        figures = cache.figures()
        assert (figures.hits, figures.misses, figures.memory_blocks) == (5, 4, 4)

    async def test_it_keeps_its_limit(self, below: Below) -> None:
        """The cache does not grow over the memory that was set for it."""
        cache = BlockCache(below, None, 64_000, 0)
        for cid in CIDS:
            assert await cache.get(cid) == BLOCKS[cid]
            assert cache.figures().memory_bytes <= 64_000
        assert cache.peek(CIDS[-1]) is not None and cache.peek(CIDS[0]) is None

    async def test_a_block_larger_than_the_memory_is_passed_through(self, below: Below) -> None:
        """A tiny memory limit slows reading and does not break it."""
        cache = BlockCache(below, None, 10, 0)
        assert await cache.get(CIDS[0]) == BLOCKS[CIDS[0]]
        assert cache.figures().memory_blocks == 0

    async def test_our_own_blocks(self) -> None:
        """What was written here is read without asking the Hub."""
        cache = BlockCache(DictSource(), None, MEMORY, 0)
        cache.put(CIDS[0], BLOCKS[CIDS[0]])
        assert await cache.get(CIDS[0]) == BLOCKS[CIDS[0]]
        async with trio.open_nursery() as nursery:
            await nursery.start(cache.run)
            nursery.cancel_scope.cancel()


class TestFlights:
    async def test_concurrent_requests_for_one_block_are_one_fetch(self, below: Below) -> None:
        """Twenty readers of one block cost one request."""
        cache = BlockCache(below, None, MEMORY, 0)
        got: list[bytes] = []

        async def read() -> None:
            got.append(await cache.get(CIDS[0]))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(read)
        assert got == [BLOCKS[CIDS[0]]] * 20
        assert below.asked == [(CIDS[0],)]

    async def test_requests_of_one_moment_are_one_request(self, below: Below) -> None:
        """Requests of the same moment go out together."""
        cache = BlockCache(below, None, MEMORY, 0)
        async with trio.open_nursery() as nursery:
            for cid in CIDS[:20]:
                nursery.start_soon(cache.get, cid)
            nursery.start_soon(cache.get_many, CIDS[10:30])
        assert len(below.asked) == 1
        assert sorted(below.asked[0]) == sorted(CIDS[:30])

    async def test_one_order_is_kept(self, below: Below) -> None:
        """Blocks are asked for in the order of the file."""
        cache = BlockCache(below, None, MEMORY, 0)
        await cache.get_many(CIDS)
        assert below.asked == [tuple(CIDS)]

    async def test_a_later_request_waits_for_the_flight_and_asks_for_the_rest(self, below: Below) -> None:
        """A block that is on its way is not fetched a second time."""
        cache = BlockCache(below, None, MEMORY, 0)
        below.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.get_many, CIDS[:4])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(cache.get_many, CIDS[2:6])
            await trio.testing.wait_all_tasks_blocked()
            assert below.asked == [tuple(CIDS[:4]), tuple(CIDS[4:6])]
            below.gate.set()

    async def test_when_the_leader_is_cancelled_another_one_leads(self, below: Below) -> None:
        """A reader that gives up does not end the read of another."""
        cache = BlockCache(below, None, MEMORY, 0)
        below.gate = trio.Event()
        got: list[dict[Cid, bytes]] = []

        async def lead(scope: trio.CancelScope) -> None:
            with scope:
                await cache.get_many(CIDS[:3])

        async def follow() -> None:
            got.append(await cache.get_many(CIDS[1:4]))

        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead, scope)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            below.gate.set()
        assert got == [{cid: BLOCKS[cid] for cid in CIDS[1:4]}]
        assert not cache._flights and not cache._boarding

    async def test_a_leader_that_was_cancelled_before_it_began(self, below: Below) -> None:
        """A read that was cancelled at once leaves nothing waiting."""
        cache = BlockCache(below, None, MEMORY, 0)
        with trio.CancelScope() as scope:
            scope.cancel()
            await cache.get(CIDS[0])
        assert not cache._flights and not cache._boarding
        assert await cache.get(CIDS[0]) == BLOCKS[CIDS[0]]

    async def test_one_absent_block_fails_only_its_own_readers(self, below: Below) -> None:
        """One missing block does not fail others' reads of the same moment."""
        cache = BlockCache(below, None, MEMORY, 0)
        absent = cid_of(b"nobody has this")
        outcomes: dict[Cid, object] = {}

        async def read(cid: Cid) -> None:
            try:
                outcomes[cid] = await cache.get(cid)
            except NotFound as error:
                outcomes[cid] = error

        async with trio.open_nursery() as nursery:
            for cid in [*CIDS[:9], absent, *CIDS[9:16]]:
                nursery.start_soon(read, cid)
        assert isinstance(outcomes.pop(absent), NotFound)
        assert outcomes == {cid: BLOCKS[cid] for cid in CIDS[:16]}
        assert len(below.asked) < 12, "halved, not asked one by one"

    async def test_an_error_goes_to_all_who_wait_and_is_not_kept(self, below: Below) -> None:
        """Each reader hears that the Hub is away, and the next read asks again."""
        cache = BlockCache(below, None, MEMORY, 0)
        below.error = Unavailable("the Hub is away", hint="wait")
        failed: list[Unavailable] = []

        async def read() -> None:
            with pytest.raises(Unavailable) as caught:
                await cache.get_many(CIDS[:4])
            failed.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
        assert len({id(error) for error in failed}) == 3
        assert {(str(error), error.hint) for error in failed} == {("the Hub is away", "wait")}
        below.error = None
        assert len(await cache.get_many(CIDS[:4])) == 4

    async def test_a_bug_below_is_not_hidden(self, below: Below) -> None:
        """A bug shows as itself and leaves no read hanging."""
        cache = BlockCache(below, None, MEMORY, 0)
        below.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await cache.get(CIDS[0])
        assert not cache._flights


def cached(below: Source, folder: Path, disk: Disk | None = None, queue_bytes: int = QUEUE_BYTES) -> BlockCache:
    """A cache whose memory holds next to nothing, so that the disk is asked."""
    return BlockCache(below, folder, 0, DISK, disk=disk, queue_bytes=queue_bytes)


async def filled(below: Source, folder: Path, disk: Disk | None = None) -> BlockCache:
    cache = cached(below, folder, disk)
    await cache.open()
    await cache.get_many(CIDS)
    await cache.flush()
    return cache


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/blocks/*/*") if path.is_file())


class TestDisk:
    async def test_what_was_read_once_is_not_fetched_again(self, below: Below, tmp_path: Path) -> None:
        """What was read once is there without the Hub, after a restart too."""
        cache = await filled(below, tmp_path)
        assert len(files_of(tmp_path)) == len(LARGE)
        assert cache.figures().disk_blocks == len(BLOCKS)
        await cache.aclose()
        again = cached(Below({}), tmp_path)
        await again.open()
        assert await again.get_many(CIDS) == BLOCKS
        for cid in CIDS[::7]:
            assert await again.get(cid) == BLOCKS[cid]
        assert again.figures().misses == 0
        await again.aclose()

    async def test_it_is_written_behind_the_reader_while_it_runs(self, below: Below, tmp_path: Path) -> None:
        """A reader does not wait for the cache to be written."""
        cache = cached(below, tmp_path)
        async with trio.open_nursery() as nursery:
            await nursery.start(cache.run)
            await cache.get_many(CIDS)
            assert cache.figures().queue_bytes > 0
            assert all(cache.peek(cid) == BLOCKS[cid] for cid in CIDS), "what waits can be read"
            nursery.cancel_scope.cancel()
        again = cached(Below({}), tmp_path)
        await again.open()
        assert await again.get_many(CIDS) == BLOCKS
        await again.aclose()

    async def test_a_v0_and_a_v1_cid_share_the_bytes(self, tmp_path: Path) -> None:
        """A block is stored once, whichever spelling of its CID names it."""
        data = b"some node" * 4000
        zero, one = cid_of(data, DAG_PB, 0), cid_of(data, DAG_PB)
        cache = cached(DictSource({zero: data}), tmp_path)
        await cache.open()
        await cache.get(zero)
        await cache.flush()
        assert await cache.get(one) == data
        await cache.aclose()

    async def test_a_spoilt_block_is_dropped_counted_and_fetched_again(
        self, below: Below, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A bad sector in the cache never shows as wrong content."""
        cache = await filled(below, tmp_path)
        for path in files_of(tmp_path):
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        below.asked.clear()
        got = await cache.get_many(CIDS)
        assert got == BLOCKS
        for cid, data in got.items():
            verify(cid, data)
        assert cache.figures().corrupt == len(LARGE)
        assert sorted(cid for batch in below.asked for cid in batch) == sorted(LARGE)
        await cache.flush()
        below.asked.clear()
        assert await cache.get_many(CIDS) == BLOCKS
        assert not below.asked
        assert "were not what their names say" in caplog.text
        await cache.aclose()

    async def test_a_spoilt_block_that_is_nowhere_else_is_not_shown(self, tmp_path: Path) -> None:
        """A corrupt block that is nowhere else is an error, not wrong content."""
        cache = await filled(Below(), tmp_path)
        await cache.aclose()
        for path in files_of(tmp_path):
            path.write_bytes(b"rubbish")
        again = cached(Below({}), tmp_path)
        await again.open()
        with pytest.raises(NotFound):
            await again.get(next(iter(LARGE)))
        await again.aclose()

    async def test_the_limit_is_kept_and_the_oldest_go(self, below: Below, tmp_path: Path) -> None:
        """The disk cache keeps its limit, and what was read last."""
        cache = BlockCache(below, tmp_path, 0, 400_000)
        await cache.open()
        for cid in CIDS:
            await cache.get(cid)
            await cache.flush()
            assert cache.figures().disk_bytes <= 400_000
        below.asked.clear()
        await cache.get_many(CIDS[-8:])
        assert not below.asked
        await cache.get_many(CIDS[:8])
        assert len(below.asked) == 1
        await cache.aclose()
        assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 400_000

    async def test_the_order_survives_a_restart(self, tmp_path: Path) -> None:
        """After a restart it is still the oldest that go."""
        blocks = dict(block(number, 30_000) for number in range(100, 130))
        cids = list(blocks)
        cache = BlockCache(Below(blocks), tmp_path, 0, 40_000 * 30)
        await cache.open()
        for cid in cids:
            await cache.get(cid)
            await cache.flush()
        await cache.get_many(cids[:5])  # used again, in a later epoch
        await cache.aclose()
        again = BlockCache(Below({}), tmp_path, 0, 40_000 * 30)
        await again.open()
        await again.make_room(32_768 * 20)
        assert len(await again.get_many(cids[:5])) == 5
        with pytest.raises(NotFound):
            await again.get(cids[6])
        await again.aclose()

    async def test_room_is_made_for_drafts(self, below: Below, tmp_path: Path) -> None:
        """The cache gives up its blocks when drafts need the disk."""
        cache = await filled(below, tmp_path)
        before = cache.figures().disk_bytes
        freed = await cache.make_room(200_000)
        assert freed >= 200_000
        assert cache.figures().disk_bytes == before - freed
        assert sum(path.stat().st_size for path in files_of(tmp_path)) < before - 150_000
        assert await cache.get_many(CIDS) == BLOCKS
        await cache.aclose()

    async def test_a_full_queue_drops_blocks_and_does_not_wait(self, below: Below, tmp_path: Path) -> None:
        """A slow disk costs cached blocks, not waiting."""
        cache = cached(below, tmp_path, queue_bytes=100_000)
        await cache.open()
        assert await cache.get_many(CIDS) == BLOCKS
        figures = cache.figures()
        assert figures.queue_bytes <= 100_000 and figures.not_stored > 0
        await cache.flush()
        assert cache.figures().queue_bytes == 0
        assert cache.figures().disk_blocks + figures.not_stored == len(CIDS)
        await cache.aclose()

    async def test_a_second_process_takes_the_next_slot(self, below: Below, tmp_path: Path) -> None:
        """Two mounts do not spoil one cache."""
        first = await filled(below, tmp_path)
        second = await filled(below, tmp_path)
        assert {path.parts[-4] for path in files_of(tmp_path)} == {"0", "1"}
        await first.aclose()
        await second.aclose()


class FullDisk(Disk):
    """Takes ``room`` bytes of blocks, then is full."""

    room = 200_000

    def pwrite(self, file: DiskFile, offset: int, data: bytes | memoryview) -> None:
        if len(data) > self.room:
            raise NoSpace("no space left")
        self.room -= len(data)
        super().pwrite(file, offset, data)


class BadDisk(Disk):
    """Fails every write."""

    def pwrite(self, file: DiskFile, offset: int, data: bytes | memoryview) -> None:
        raise DiskFailed("bad sector")


class TestTrouble:
    async def test_a_full_disk_only_means_that_less_is_stored(self, below: Below, tmp_path: Path) -> None:
        """Reading goes on over a full disk."""
        cache = await filled(below, tmp_path, disk=FullDisk())
        figures = cache.figures()
        assert figures.not_stored > 0
        assert await cache.get_many(CIDS) == BLOCKS
        assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 200_000
        await cache.aclose()

    async def test_a_failing_disk_only_means_that_nothing_is_stored(
        self, below: Below, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Reading goes on over a failing disk."""
        cache = await filled(below, tmp_path, disk=BadDisk())
        assert await cache.get_many(CIDS) == BLOCKS
        assert cache.figures().failures > 0
        assert "bad sector" in caplog.text
        await cache.aclose()

    async def test_a_folder_that_cannot_be_made(self, below: Below, tmp_path: Path) -> None:
        """A cache folder that cannot be used does not stop a mount."""
        (tmp_path / "file").write_bytes(b"")
        cache = await filled(below, tmp_path / "file" / "cache")
        assert await cache.get_many(CIDS) == BLOCKS
        assert cache.figures().disk_blocks == 0
        await cache.aclose()

    @pytest.mark.parametrize("victim", ["all", "blocks", "database"])
    async def test_the_folder_is_deleted_while_it_runs(self, below: Below, tmp_path: Path, victim: str) -> None:
        """The cache may be deleted at any moment."""
        folder = tmp_path / "cache"
        cache = await filled(below, folder)
        if victim == "all":
            shutil.rmtree(folder)
        elif victim == "blocks":
            shutil.rmtree(folder / "0" / "blocks")
        else:
            for path in (folder / "0").glob("index.sqlite*"):
                path.unlink()
        assert await cache.get_many(CIDS) == BLOCKS
        fresh = dict(block(number, 25_000) for number in range(500, 510))
        cache.put_many(fresh.items())
        await cache.flush()
        assert await cache.get_many(CIDS) == BLOCKS
        await cache.flush()
        below.asked.clear()
        assert await cache.get_many([*CIDS, *fresh]) == BLOCKS | fresh
        assert not below.asked, "and it is a cache again"
        await cache.aclose()
        again = cached(Below({}), folder)
        await again.open()
        assert await again.get_many(list(fresh)) == fresh
        await again.aclose()

    async def test_it_is_deleted_under_concurrent_readers(self, below: Below, tmp_path: Path) -> None:
        """Deleting the cache under load fails no read."""
        folder = tmp_path / "cache"
        cache = await filled(below, folder)
        async with trio.open_nursery() as nursery:
            await nursery.start(cache.run)

            async def read(seed: int) -> None:
                chance = random.Random(seed)
                for _ in range(15):
                    wanted = chance.sample(CIDS, 5)
                    assert await cache.get_many(wanted) == {cid: BLOCKS[cid] for cid in wanted}

            async with trio.open_nursery() as readers:
                for seed in range(6):
                    readers.start_soon(read, seed)
                for _ in range(4):
                    await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
            nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("spoil", [b"this is no database" * 500, b""])
    async def test_a_spoilt_database_is_made_anew_and_the_files_are_kept(
        self, below: Below, tmp_path: Path, spoil: bytes
    ) -> None:
        """A crash that spoilt the index does not cost the large blocks."""
        cache = await filled(below, tmp_path)
        await cache.aclose()
        (tmp_path / "0" / "index.sqlite").write_bytes(spoil)
        below.asked.clear()
        again = cached(below, tmp_path)
        await again.open()
        assert await again.get_many(CIDS) == BLOCKS
        assert sorted(cid for batch in below.asked for cid in batch) == sorted(SMALL)
        await again.aclose()

    async def test_a_kill_between_file_and_row(self, below: Below, tmp_path: Path) -> None:
        """A kill at any moment leaves a cache that opens and tells no lies."""
        cache = await filled(below, tmp_path)
        await cache.aclose()
        files = files_of(tmp_path)
        files[0].unlink()
        (tmp_path / "0" / "blocks" / "new").write_bytes(b"half a block")
        again = cached(below, tmp_path)
        await again.open()
        assert again.figures().disk_blocks == len(BLOCKS) - 1
        assert await again.get_many(CIDS) == BLOCKS
        await again.flush()
        assert files_of(tmp_path) == files
        assert again.figures().corrupt == 0
        await again.aclose()

    async def test_corrupt_from_below_is_handed_on(self, below: Below, tmp_path: Path) -> None:
        """Wrong bytes from the Hub are an error and are not kept."""
        cache = await filled(below, tmp_path)
        below.error = Corrupt("not what it says")
        with pytest.raises(Corrupt):
            await cache.get(cid_of(b"another"))
        await cache.aclose()

    async def test_nothing_is_stored_after_the_end(self, below: Below, tmp_path: Path) -> None:
        """A late block does not open a cache that was closed."""
        cache = await filled(below, tmp_path)
        await cache.aclose()
        fresh, data = block(900, 20_000)
        cache.put(fresh, data)
        assert cache.figures().queue_bytes == 0
        assert await cache.get_many(CIDS) == BLOCKS
