"""Large files go beside the rounds: what is small passes them both ways, and they end when their reason is gone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Collection, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from support.machine import Machine, hub_names, put, settle
from support.memory_remote import MemoryRemote
from support.running_mirror import Running, eventually, running
from support.unixfs import build_file

from bucketfs.client import PutResult
from bucketfs.dag import RAW, codec_of, drive, edit_tree, resolve
from bucketfs.errors import OverQuota
from bucketfs.mirror import Mirror, MirrorState, WatchedFolder
from bucketfs.mirror.background import INLINE_BYTES
from bucketfs.transfer import real_path
from bucketfs.types import Cid, NodeAttributes, UploadId

SIZE = INLINE_BYTES + (1 << 20)
WHEN_NS = 1_500_000_000_123_456_789


class GatedRemote(MemoryRemote):
    """A Hub whose link lets the leaves of large files through only when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.large: set[Cid] = set()
        self.stuck = 0
        self.refuses_large = False

    def holds(self, data: bytes) -> None:
        self.large |= {cid for cid in build_file(data).blocks if codec_of(cid) == RAW}

    async def _pass(self, cids: Collection[Cid]) -> None:
        if self.large.isdisjoint(cids):
            return
        if self.refuses_large:
            raise OverQuota("more than the account may have")
        self.stuck += 1
        try:
            await self.gate.wait()
        finally:
            self.stuck -= 1

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        await self._pass(cids)
        return await super().blocks(cids)

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        async def passed() -> AsyncIterable[Sequence[tuple[Cid, bytes]]]:
            async for batch in batches:
                await self._pass([cid for cid, _ in batch])
                yield batch

        return await super().put(passed(), upload)


@pytest.fixture
def remote() -> GatedRemote:
    return GatedRemote()


@pytest.fixture
def one(tmp_path: Path, remote: GatedRemote) -> Machine:
    return Machine(tmp_path, "one", remote)


@pytest.fixture(scope="module")
def data() -> bytes:
    return os.urandom(SIZE)


def remove(remote: MemoryRemote, name: str) -> None:
    edited = drive(edit_tree(remote.at, {(name.encode(),): None}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid


def names(one: Machine) -> set[str]:
    """What is in the folder, also what is written aside; how many of those there are matters, not their names."""
    return {name if name[:1] != "." else "aside" for name in os.listdir(one.top)}


async def stuck(remote: GatedRemote) -> None:
    await eventually(lambda: remote.stuck > 0, "no large file is on its way")


async def passes_both_ways(one: Machine, remote: GatedRemote, there: Running, number: int) -> None:
    swaps = remote.swaps
    one.write(f"here {number}", "x")
    await eventually(lambda: remote.swaps > swaps, "a small change here waits for the large file")
    put(remote, f"there {number}", b"y", NodeAttributes(mtime_ns=WHEN_NS))
    there.runner.changed()
    await eventually(lambda: (one.top / f"there {number}").exists(), "a small change there waits for the large file")


async def test_small_changes_pass_what_arrives(one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path) -> None:
    """A small edit must not wait for hours behind a video that arrives."""
    remote.holds(data)
    put(remote, "dir/large", data, NodeAttributes(mode=0o640, mtime_ns=WHEN_NS))
    async with running(one, tmp_path / "spare") as there:
        await stuck(remote)
        for number in range(2):
            await passes_both_ways(one, remote, there, number)
        assert not (one.top / "dir/large").exists()
        assert "aside" in names(one)
        assert there.rounds[-1].applied.arriving == 1
        assert there.rounds[-1].applied.left == []
        swaps, root = remote.swaps, remote.at
        remote.gate.set()
        await eventually(lambda: (one.top / "dir/large").exists(), "the large file does not arrive")
        await eventually(lambda: there.rounds[-1].applied.arriving == 0, "it does not come to rest")
        assert (one.top / "dir/large").read_bytes() == data
        assert (one.top / "dir/large").stat().st_mtime_ns == WHEN_NS
        assert names(one) == {"dir", "here 0", "here 1", "there 0", "there 1"}
    await settle(one)
    assert (remote.swaps, remote.at) == (swaps, root), "that it arrived is no news"


@pytest.mark.parametrize("replaced", [False, True])
async def test_what_arrives_ends_when_it_is_gone_at_the_hub(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path, replaced: bool
) -> None:
    """Else a removed video would be fetched to the end, and its parts would stay."""
    remote.holds(data)
    put(remote, "large", data)
    one.write("here", "x")
    async with running(one, tmp_path / "spare") as there:
        await stuck(remote)
        await eventually(lambda: "aside" in names(one), "nothing is written aside")
        if replaced:
            put(remote, "large", b"small now")
        else:
            remove(remote, "large")
        there.runner.changed()
        await eventually(lambda: remote.stuck == 0, "it goes on after its reason is gone")
        await eventually(lambda: names(one) == {"here"} | ({"large"} if replaced else set()), "something is left behind")
        assert not there.troubles
    if replaced:
        assert one.read("large") == "small now"
    await settle(one)


async def test_small_changes_pass_what_departs(one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path) -> None:
    """A small edit must not wait for hours behind a video that is sent."""
    remote.holds(data)
    one.write("large", data)
    one.write("small", "x")
    async with running(one, tmp_path / "spare") as there:
        await stuck(remote)
        for number in range(2):
            await passes_both_ways(one, remote, there, number)
        assert "small" in hub_names(remote)
        assert "large" not in hub_names(remote)
        assert there.rounds[-1].sending == 1
        assert there.rounds[-1].skipped == []
        remote.gate.set()
        await eventually(lambda: "large" in hub_names(remote), "the large file does not depart")
    two = Machine(tmp_path, "two", remote)
    await settle(one, two)
    assert (two.top / "large").read_bytes() == data


@pytest.mark.parametrize("change", ["removed", "rewritten", "became small"])
async def test_what_departs_ends_when_it_is_gone_here(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path, change: str
) -> None:
    """Else a removed video would still be sent to the end."""
    remote.holds(data)
    one.write("large", data)
    async with running(one, tmp_path / "spare"):
        await stuck(remote)
        other = b"s" * (SIZE if change == "rewritten" else 1)
        if change == "removed":
            one.remove("large")
        else:
            one.write("large", other)
        await eventually(lambda: remote.stuck == 0, "it goes on after its reason is gone")
        if change != "removed":
            await eventually(lambda: "large" in hub_names(remote), "the new content does not depart")
    two = Machine(tmp_path, "two", remote)
    await settle(one, two)
    assert (two.top / "large").read_bytes() == other if change != "removed" else hub_names(remote) == []


async def test_a_large_file_that_the_hub_refuses_holds_up_itself_only(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path
) -> None:
    """One file over the quota must not stop all others."""
    remote.holds(data)
    remote.refuses_large = True
    one.write("large", data)
    async with running(one, tmp_path / "spare") as there:
        await eventually(lambda: bool(there.rounds[-1].skipped), "nothing is said of the refusal")
        assert there.rounds[-1].skipped[0].reason == "more than the account may have"
        remote.gate.set()
        await passes_both_ways(one, remote, there, 0)
        assert [item.path for item in there.rounds[-1].skipped] == ["large"]
        assert there.troubles == []


async def test_an_outage_does_not_begin_it_anew(one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path) -> None:
    """Else a large file would never arrive over a link that breaks now and then."""
    remote.holds(data)
    put(remote, "large", data)
    async with running(one, tmp_path / "spare") as there:
        await stuck(remote)
        await eventually(lambda: "aside" in names(one), "nothing is written aside")
        aside = next(name for name in os.listdir(one.top) if name[:1] == ".")
        remote.away = True
        remote.gate.set()
        await eventually(lambda: remote.stuck == 0, "the question does not end")
        remote.away = False
        there.runner.hurry()
        assert aside in os.listdir(one.top)
        await eventually(lambda: (one.top / "large").exists(), "it does not go on")
        assert (one.top / "large").read_bytes() == data


async def test_what_moves_at_the_hub_meanwhile_goes_on(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path
) -> None:
    """Else a rename would begin a long transfer again."""
    remote.holds(data)
    put(remote, "dir/large", data, NodeAttributes(mtime_ns=WHEN_NS))
    async with running(one, tmp_path / "spare") as there:
        await stuck(remote)
        put(remote, "elsewhere/renamed", data, NodeAttributes(mtime_ns=WHEN_NS))
        remove(remote, "dir")
        there.runner.changed()
        await eventually(lambda: "elsewhere" in names(one) and "dir" not in names(one), "the move is not taken")
        assert remote.stuck == 1
        remote.gate.set()
        await eventually(lambda: (one.top / "elsewhere/renamed").exists(), "it does not go on")
        assert (one.top / "elsewhere/renamed").read_bytes() == data


async def test_what_has_not_arrived_when_it_ends_is_removed(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path
) -> None:
    """Else parts of large files would fill the user's folder."""
    remote.holds(data)
    put(remote, "large", data)
    before = remote.at
    async with running(one, tmp_path / "spare"):
        await stuck(remote)
        await eventually(lambda: "aside" in names(one), "nothing is written aside")
    assert names(one) == set()
    remote.gate.set()
    await settle(one)
    assert (one.top / "large").read_bytes() == data
    assert remote.at == before


async def test_rounds_alone_carry_everything(one: Machine, remote: GatedRemote, data: bytes) -> None:
    """Until `carry` runs beside them."""
    put(remote, "large", data)
    state = MirrorState(one.state_file)
    mirror = Mirror(remote, WatchedFolder(real_path(one.top), state), one.conflict_name)
    done = await mirror.round()
    assert (done.applied.written, mirror.carrying) == (1, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.carry)
        await trio.testing.wait_all_tasks_blocked()
        one.write("another", data[:-1])
        assert (await mirror.round()).sending == 1
        await mirror.gather()
        assert (await mirror.round()).pushed == 1
        assert not mirror.carrying
        nursery.cancel_scope.cancel()
    state.close()


async def test_what_only_moved_is_copied_beside_and_not_fetched(
    one: Machine, remote: GatedRemote, data: bytes, tmp_path: Path
) -> None:
    """Its old name goes in the round, before the copy is made."""
    one.write("dir/large", data)
    await settle(one)
    link = drive(resolve(remote.at, (b"dir", b"large")), remote._get)
    edited = drive(edit_tree(remote.at, {(b"elsewhere", b"renamed"): link, (b"dir",): None}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid
    remote.holds(data)
    async with running(one, tmp_path / "spare") as there:
        assert there.rounds[0].applied.arriving == 1
        await eventually(lambda: (one.top / "elsewhere/renamed").exists(), "the move does not arrive")
        assert (one.top / "elsewhere/renamed").read_bytes() == data
        await eventually(lambda: names(one) == {"elsewhere"}, "something is left behind")
        assert remote.stuck == 0
