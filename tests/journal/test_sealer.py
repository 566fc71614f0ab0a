"""Seals on a journal: what they cost, what they find, and what they leave alone."""

from __future__ import annotations

import pytest
import trio
from support.faulty_disk import FaultyDisk

from bucketfs.disk import DiskFile
from bucketfs.errors import Corrupt, DiskFailed, NoSpace
from bucketfs.journal import Draft, Journal, Resources
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.journal.ops import SetContent

FOLDER = "/journal"


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def journal(disk: FaultyDisk) -> Journal:
    return Journal.open(disk, FOLDER, Resources.below(disk, "", 64))


def reopened(disk: FaultyDisk) -> Journal:
    return Journal.open(disk, FOLDER, Resources.below(disk, "", 64))


def recorded(journal: Journal, data: bytes, draft: Draft | None = None, offset: int = 0) -> Draft:
    draft = draft or journal.drafts.new()
    draft.write(offset, data)
    stop = offset + len(data)
    journal.append(SetContent(f"f{draft.id}", draft.id, ((offset, stop),), 0, stop, 1, 1))
    return draft


async def sealed(journal: Journal, data: bytes) -> Draft:
    draft = recorded(journal, data)
    await journal.seal({draft.id: [(0, len(data))]})
    return draft


def damage(disk: FaultyDisk, draft: Draft, at: int) -> None:
    path = f"{FOLDER}/drafts/{draft.id & 255:02x}/{draft.id:016x}"
    data = bytearray(disk.read_file(path))
    data[at] ^= 0x10
    disk.replace_file(path, bytes(data))


async def test_a_sealed_draft_that_was_damaged_is_corrupt_and_others_are_not(disk: FaultyDisk, journal: Journal) -> None:
    """Damage on this disk is an error, never other bytes at the Hub."""
    hit = await sealed(journal, b"a" * (3 * BLOCK_SIZE))
    other = await sealed(journal, b"b" * 100)
    later = disk.after_kill()
    damage(later, hit, BLOCK_SIZE + 5)
    after = reopened(later)
    assert after.figures().drafts_sealed == 2
    draft = after.drafts.get(hit.id)
    assert draft.read(0, BLOCK_SIZE) == b"a" * BLOCK_SIZE
    assert draft.read(2 * BLOCK_SIZE, BLOCK_SIZE) == b"a" * BLOCK_SIZE
    for at, size in [(0, BLOCK_SIZE + 1), (BLOCK_SIZE + 5, 1), (2 * BLOCK_SIZE - 1, 2), (0, 3 * BLOCK_SIZE)]:
        with pytest.raises(Corrupt, match=f"bytes {BLOCK_SIZE} to {2 * BLOCK_SIZE}"):
            draft.read(at, size)
    assert after.drafts.get(other.id).read(0, 1000) == b"b" * 100


@pytest.mark.parametrize("left", [0, 10])
async def test_a_sealed_draft_that_lost_bytes_is_corrupt_and_its_records_stay(disk: FaultyDisk, left: int) -> None:
    """A file that the disk cut short is reported, and not shown in an older state."""
    journal = reopened(disk)
    hit = await sealed(journal, b"a" * 100)
    lost = recorded(journal, b"b" * 100)
    later = disk.after_kill()
    for draft in (hit, lost):
        path = f"{FOLDER}/drafts/{draft.id:02x}/{draft.id:016x}"
        kept = later.read_file(path)[:left]
        later.unlink(path)
        if left:
            later.replace_file(path, kept)
    after = reopened(later)
    # Bytes that nothing had made durable may be gone after a power loss. Sealed ones cannot.
    assert [op.draft for op in after.recovered.unbacked] == [lost.id]
    assert [op.draft for op in after.recovered.ops if isinstance(op, SetContent)] == [hit.id]
    for _ in range(2):
        with pytest.raises(Corrupt):
            after.drafts.get(hit.id).read(0, 100)
        await after.compact()
        after.close()
        after = reopened(later)


async def test_sealed_bytes_stay_and_what_is_said_again_costs_nothing(disk: FaultyDisk, journal: Journal) -> None:
    """Writing the same bytes again needs no second draft."""
    draft = await sealed(journal, b"line 1\n")
    assert not draft.take(0, b"LINE 1\n")
    assert not draft.take(3, b"other bytes")
    before = len(disk.calls)
    assert draft.take(0, b"line 1\n")
    assert disk.calls[before:] == [], "the bytes were there"
    # As the kernel sends the whole page again when a line is added to it.
    assert draft.take(0, b"line 1\nline 2\n")
    assert disk.calls[before:] == ["pwrite"]
    assert draft.read(0, 100) == b"line 1\nline 2\n"
    await journal.seal({draft.id: [(0, 14)]})
    assert not draft.take(13, b"!")
    assert reopened(disk.after_kill()).drafts.get(draft.id).sealed_in(13, 14)


async def test_no_other_bytes_are_mixed_with_damaged_ones(disk: FaultyDisk, journal: Journal) -> None:
    """A write beside damage must not make the damage look right."""
    draft = recorded(journal, b"a" * 100)
    file = disk.open(f"{FOLDER}/drafts/{draft.id:02x}/{draft.id:016x}")
    disk.pwrite(file, 50, b"X")
    disk.close(file)
    assert not draft.take(10, b"b"), "a sum of the block would be one of the damage, too"
    assert draft.take(0, b"c" * 100), "nothing of the damage is left"
    assert draft.read(0, 100) == b"c" * 100
    disk.pwrite(file := disk.open(file.path), 50, b"X")
    disk.close(file)
    draft.cut(0)
    assert draft.take(0, b"d"), "what was cut off is not looked at"


async def test_a_draft_that_is_written_meanwhile_is_not_sealed(
    disk: FaultyDisk, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checksums of a file in use would call its next state damaged."""
    quiet, busy = recorded(journal, b"a" * 10), recorded(journal, b"b" * 10)
    fsync = disk.fsync

    def write_then_fsync(file: DiskFile) -> None:
        busy.write(3, b"c")
        fsync(file)

    monkeypatch.setattr(disk, "fsync", write_then_fsync)
    await journal.seal({quiet.id: [(0, 10)], busy.id: [(0, 10)]})
    assert quiet.sealed_in(0, 10) and not busy.sealed_in(0, 10)


async def test_reading_back_has_a_limit_and_goes_on_the_next_time(disk: FaultyDisk, journal: Journal) -> None:
    """Checksums of a large backlog do not hold the disk for minutes."""
    draft = recorded(journal, b"a" * (3 * BLOCK_SIZE))
    after = reopened(disk.after_kill())  # which knows no sums
    extents = {draft.id: [(0, 3 * BLOCK_SIZE)]}
    draft = after.drafts.get(draft.id)
    assert await after.seal(extents, read_back_bytes=2 * BLOCK_SIZE) == {draft.id}
    assert draft.sealed_in(2 * BLOCK_SIZE - 1, 2 * BLOCK_SIZE) and not draft.sealed_in(2 * BLOCK_SIZE, 3 * BLOCK_SIZE)
    assert await after.seal(extents, read_back_bytes=2 * BLOCK_SIZE) == set()
    assert draft.sealed_in(3 * BLOCK_SIZE - 1, 3 * BLOCK_SIZE)


async def test_a_seal_is_recorded_once_and_carried_on(disk: FaultyDisk, journal: Journal) -> None:
    """Checksums outlive checkpoints, and cost their room once."""
    draft = await sealed(journal, b"a" * 10)
    records = journal.figures().records
    await journal.seal({draft.id: [(0, 10)]})
    assert journal.figures().records == records
    op = SetContent("f", draft.id, ((0, 10),), 0, 10, 1, 1)
    journal.checkpoint(None, [op])
    assert reopened(disk.after_kill()).drafts.get(draft.id).sealed_in(0, 10)
    # A file that was taken off its name, and comes back later.
    journal.checkpoint(None, [])
    journal.append(op)
    await journal.compact()
    assert reopened(disk.after_power_loss()).drafts.get(draft.id).sealed_in(0, 10)


async def test_what_cannot_be_synced_is_not_sealed(disk: FaultyDisk, journal: Journal) -> None:
    """A seal vouches for bytes that are durable, so a failed fsync gives none."""
    draft = recorded(journal, b"a" * 10)
    disk.fail_at[len(disk.calls) + 1] = DiskFailed("bad sector")
    await journal.seal({draft.id: [(0, 10)]})
    assert not draft.sealed_in(0, 10)
    with pytest.raises(DiskFailed, match="draft 1"):
        await journal.sync()
    await journal.seal({draft.id: [(0, 10)]})
    assert not draft.sealed_in(0, 10)


async def test_a_full_disk_seals_nothing(disk: FaultyDisk, journal: Journal) -> None:
    """Checksums are no reason to fail on a full disk."""
    draft = recorded(journal, b"a" * 10)
    disk.capacity_bytes = disk.used_bytes() + 5
    with pytest.raises(NoSpace):
        await journal.seal({draft.id: [(0, 10)]})
    assert not draft.sealed_in(0, 10)
    disk.capacity_bytes = None
    assert draft.take(0, b"b" * 10)
    await journal.seal({draft.id: [(0, 10)]})
    assert reopened(disk.after_kill()).drafts.get(draft.id).read(0, 10) == b"b" * 10


async def test_sealing_keeps_no_fsync_waiting_and_a_close_waits_for_it(disk: FaultyDisk, journal: Journal) -> None:
    """A program's fsync does not queue behind checksums."""
    draft = recorded(journal, b"a" * 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.seal, {draft.id: [(0, 10)]})
        nursery.start_soon(journal.sync)
    assert draft.sealed_in(0, 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.seal, {draft.id: [(0, 10)]})
        nursery.start_soon(journal.aclose)
    assert disk.open_files() == 0
