"""The journal's door: appending, syncing, checkpoints, full and failing disks. Crashes have a room of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from support.faulty_disk import FaultyDisk

from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import DiskFailed, NoSpace, NotFound, TooManyOpen, Unsupported
from bucketfs.journal import Journal, Resources
from bucketfs.journal.ops import Create, Op, Remove, SetContent
from bucketfs.journal.record import encode_frame
from bucketfs.types import Cid, DraftId, Inode

FOLDER = "/journal"
BASE = Cid(b"\x01\x70\x12\x20" + b"\x07" * 32)
OTHER = Cid(b"\x01\x70\x12\x20" + b"\x08" * 32)


def create(number: int) -> Create:
    return Create(f"f{number}", Inode(number), 0o644, None, None, number, number)


def content(draft: DraftId, stop: int) -> SetContent:
    return SetContent(f"f{draft}", draft, ((0, stop),), 0, stop, 1, 1)


def reopened(disk: Disk, folder: str = FOLDER) -> Journal:
    return Journal.open(disk, folder, Resources.below(disk, "", 64))


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def journal(disk: FaultyDisk) -> Journal:
    """A journal with a segment, as it has one from its first record on."""
    journal = Journal.open(disk, FOLDER, Resources.below(disk, "", 64))
    journal.checkpoint(None, ())
    return journal


async def test_on_a_real_disk(tmp_path: Path) -> None:
    """The whole of it on real files: what was recorded and written comes back."""
    journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
    assert journal.recovered.base is None and journal.recovered.ops == []
    journal.checkpoint(BASE, [])
    draft = journal.drafts.new()
    draft.write(0, b"hello")
    draft.write(5, b" world")
    written: list[Op] = [create(1), content(draft.id, 11)]
    for op in written:
        journal.append(op)
    await journal.sync()
    await journal.compact()
    figures = journal.figures()
    assert (figures.records, figures.segments, figures.drafts, figures.unsynced_bytes) == (3, 1, 1, 0)
    assert figures.reserve_bytes == 4 * 1024 * 1024
    journal.close()

    journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
    assert journal.recovered.base == BASE
    assert journal.recovered.ops == written
    draft = journal.drafts.get(draft.id)
    assert draft.read(0, 100) == b"hello world"
    assert draft.read(6, 3) == b"wor"
    assert draft.size_bytes == 11
    assert journal.drafts.new().id > draft.id
    journal.close()


async def test_what_was_synced_of_a_draft_counts_when_later_bytes_are_lost(tmp_path: Path) -> None:
    """A power loss takes what came after the fsync, never what it acknowledged."""
    journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
    draft = journal.drafts.new()
    path = journal.drafts.path(draft.id)
    draft.write(0, b"synced")
    first, later = content(draft.id, 6), content(draft.id, 11)
    journal.append(create(1))
    journal.append(first)
    await journal.sync()
    draft.write(6, b"later")
    journal.append(create(2))
    journal.append(later)
    journal.append(create(3))
    journal.close()
    os.truncate(path, 6)
    journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
    found = journal.recovered
    assert found.ops == [create(1), first, create(2), create(3)]
    assert (found.unbacked, found.unbacked_at) == ([later], [3])
    assert journal.drafts.get(draft.id).read(0, 100) == b"synced"
    await journal.sweep()
    assert journal.drafts.get(draft.id).read(0, 100) == b"synced"
    journal.close()


def test_append_is_one_call_and_does_not_await(disk: FaultyDisk, journal: Journal) -> None:
    """A program's close waits for one write(2), and a kill tears no record."""
    before = len(disk.calls)
    journal.append(create(1))
    assert disk.calls[before:] == ["write"]


async def test_a_sync_costs_nothing_when_all_is_synced(disk: FaultyDisk, journal: Journal) -> None:
    """Programs that call fsync again and again are not slowed down."""
    journal.append(create(1))
    await journal.sync()
    before = len(disk.calls)
    await journal.sync()
    assert disk.calls[before:] == []


async def test_syncs_that_overlap_share_their_fsyncs(disk: FaultyDisk, journal: Journal) -> None:
    """Many programs that call fsync at once wait for one disk flush."""

    async def change_and_sync(number: int) -> None:
        journal.append(create(number))
        await journal.sync()
        survivors = reopened(disk.after_power_loss()).recovered.ops
        assert create(number) in survivors

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(change_and_sync, number)
    assert disk.calls.count("fsync") <= 10


async def test_a_cancelled_sync_leaves_the_others_whole(disk: FaultyDisk, journal: Journal) -> None:
    """A program that is killed in fsync takes no other's acknowledgement away."""
    synced = []

    async def change_and_sync(number: int) -> None:
        journal.append(create(number))
        await journal.sync()
        synced.append(number)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.sync()
        async with trio.open_nursery() as inner:
            for number in range(5):
                inner.start_soon(change_and_sync, number)
            await trio.testing.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
        nursery.start_soon(change_and_sync, 9)
        nursery.start_soon(change_and_sync, 10)
    assert {9, 10} <= set(synced)
    assert set(reopened(disk.after_power_loss()).recovered.ops) >= {create(number) for number in synced}


async def test_bytes_written_again_after_a_sync_are_synced_again(disk: FaultyDisk, journal: Journal) -> None:
    """The second fsync of a file is as good as the first."""
    draft = journal.drafts.new()
    draft.write(0, b"old!")
    journal.append(content(draft.id, 4))
    await journal.sync()
    draft.write(0, b"new!")
    await journal.sync()
    after = reopened(disk.after_power_loss())
    assert after.drafts.get(draft.id).read(0, 9) == b"new!"


async def test_a_draft_can_be_synced_by_itself(disk: FaultyDisk, journal: Journal) -> None:
    """fdatasync of one file does not wait for others."""
    await journal.sync()
    draft = journal.drafts.new()
    draft.write(0, b"bytes")
    await draft.fsync()
    assert b"bytes" in disk.after_power_loss().everything().values()


async def test_compacting_keeps_what_is_in_use(disk: FaultyDisk, journal: Journal) -> None:
    """Compacting never deletes bytes that an open file needs."""
    named, kept, unused, later = (journal.drafts.new() for _ in range(4))
    for draft in (named, kept, unused, later):
        draft.write(0, b"data")
        journal.append(content(draft.id, 4))
    journal.checkpoint(BASE, [content(named.id, 4)])
    journal.append(content(later.id, 4))
    assert journal.figures().segments == 2
    await journal.compact(keep={kept.id})
    assert journal.figures().segments == 1
    assert [draft.id in journal.drafts for draft in (named, kept, unused, later)] == [True, True, False, True]
    with pytest.raises(NotFound):
        unused.read(0, 4)
    with pytest.raises(NotFound):
        journal.drafts.get(unused.id)
    assert len(disk.everything()) == 1 + 3 + 1  # a segment, three drafts, the reserve


async def test_what_is_appended_while_it_compacts_is_kept(disk: FaultyDisk, journal: Journal) -> None:
    """Work goes on while the journal compacts, and none of it is lost."""
    drafts = [journal.drafts.new() for _ in range(20)]
    journal.checkpoint(BASE, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.compact, {draft.id for draft in drafts})
        for draft in drafts:
            draft.write(0, b"1234")
            journal.append(content(draft.id, 4))
            await trio.lowlevel.checkpoint()
    await journal.sync()
    after = reopened(disk.after_power_loss())
    assert len(after.recovered.ops) == 20
    assert all(after.drafts.get(draft.id).read(0, 4) == b"1234" for draft in drafts)


async def test_an_orphan_waits_for_the_sweep(disk: FaultyDisk, journal: Journal) -> None:
    """A draft whose record a crash took is removed only when that is sure."""
    orphan = journal.drafts.new()
    orphan.write(0, b"never recorded")
    held = journal.drafts.new()
    held.write(0, b"held")
    after = reopened(disk.after_kill())
    await after.compact()
    assert orphan.id in after.drafts.on_disk()
    mine = after.drafts.new()
    assert await after.sweep({held.id}) == 1
    assert set(after.drafts.on_disk()) == {held.id, mine.id}
    assert await after.sweep({held.id}) == 0


def test_a_discarded_draft_goes_at_once_unless_a_record_names_it(disk: FaultyDisk, journal: Journal) -> None:
    """A temporary file gives its room back at once."""
    draft, named = journal.drafts.new(), journal.drafts.new()
    named.write(0, b"data")
    journal.append(content(named.id, 4))
    draft.discard()
    named.discard()
    assert set(journal.drafts.on_disk()) == {named.id}
    assert named.read(0, 4) == b"data"


def test_many_drafts_need_few_descriptors(disk: FaultyDisk, journal: Journal) -> None:
    """A build with ten thousand open drafts does not use up the limit of open files."""
    drafts = [journal.drafts.new() for _ in range(300)]
    for draft in drafts:
        draft.write(0, b"%d" % draft.id)
    assert disk.open_files() < 80
    assert all(draft.read(0, 9) == b"%d" % draft.id for draft in drafts)
    assert disk.open_files() < 80


class TestAFullDisk:
    def test_a_torn_append_is_cut_back(self, disk: FaultyDisk, journal: Journal) -> None:
        """After a full disk the next record is readable, and so are all before."""
        journal.append(create(1))
        disk.capacity_bytes = disk.used_bytes() + 20
        with pytest.raises(NoSpace):
            journal.append(create(2))
        assert reopened(disk.after_kill()).recovered.ops == [create(1)]
        disk.capacity_bytes = None
        journal.append(create(3))
        found = reopened(disk.after_kill()).recovered
        assert found.ops == [create(1), create(3)] and not found.set_aside

    async def test_what_frees_space_may_use_the_reserve(self, disk: FaultyDisk, journal: Journal) -> None:
        """rm works on a full disk."""
        draft = journal.drafts.new()
        draft.write(0, bytes(4096))
        disk.capacity_bytes = disk.used_bytes()
        with pytest.raises(NoSpace):
            journal.append(create(1))
        journal.append(Remove("f1", 1), frees_space=True)
        assert journal.figures().reserve_bytes == 0
        with pytest.raises(NoSpace):
            journal.append(Remove("f" * 100, 1), frees_space=True)
        draft.discard()
        await journal.compact()
        assert journal.figures().reserve_bytes == 64
        assert reopened(disk.after_power_loss()).recovered.ops == [Remove("f1", 1)]

    def test_a_checkpoint_may_use_all_of_it(self, disk: FaultyDisk, journal: Journal) -> None:
        """A full disk does not keep the journal from beginning anew, which is what frees room."""
        journal.append(create(1))
        disk.capacity_bytes = disk.used_bytes() + 50
        journal.checkpoint(None, [])
        assert journal.figures().reserve_bytes == 0
        disk.capacity_bytes = disk.used_bytes()
        with pytest.raises(NoSpace):
            journal.checkpoint(BASE, [create(1)])
        assert reopened(disk.after_kill()).recovered.ops == []
        disk.capacity_bytes = None
        journal.append(create(2))
        journal.checkpoint(BASE, [create(3)])
        found = reopened(disk.after_kill()).recovered
        assert (found.base, found.ops, found.set_aside) == (BASE, [create(3)], [])

    def test_a_draft_that_does_not_fit(self, disk: FaultyDisk, journal: Journal) -> None:
        """The program hears ENOSPC, and nothing of the write counts."""
        draft = journal.drafts.new()
        disk.capacity_bytes = disk.used_bytes() + 10
        with pytest.raises(NoSpace):
            draft.write(0, bytes(11))
        draft.write(0, bytes(10))
        with pytest.raises(NoSpace):
            reopened(FaultyDisk(capacity_bytes=10)).checkpoint(None, ())


class TestAFailingDisk:
    async def test_after_a_failed_fsync_only_a_checkpoint_helps(self, disk: FaultyDisk, journal: Journal) -> None:
        """A second fsync of the same file would be told that all is well."""
        await journal.sync()
        journal.append(create(1))
        disk.fail_at[len(disk.calls) + 1] = DiskFailed("bad sector")
        with pytest.raises(DiskFailed, match="bad sector"):
            await journal.sync()
        assert journal.failed and journal.figures().failed
        with pytest.raises(DiskFailed):
            await journal.sync()
        with pytest.raises(DiskFailed):
            journal.append(create(2))
        with pytest.raises(DiskFailed):
            await journal.compact()
        journal.checkpoint(None, [create(1)])
        journal.append(create(2))
        await journal.sync()
        assert reopened(disk.after_power_loss()).recovered.ops == [create(1), create(2)]

    async def test_a_draft_whose_bytes_may_be_gone_is_not_acknowledged(self, disk: FaultyDisk, journal: Journal) -> None:
        """fsync never says yes to bytes that the disk may have dropped."""
        await journal.sync()
        draft = journal.drafts.new()
        draft.write(0, b"data")
        journal.append(content(draft.id, 4))
        disk.fail_at[len(disk.calls) + 1] = DiskFailed("bad sector")
        with pytest.raises(DiskFailed, match="draft 1"):
            await journal.sync()
        with pytest.raises(DiskFailed, match="draft 1"):
            await journal.sync()
        other = journal.drafts.new()
        other.write(0, draft.read(0, 4))
        journal.append(content(other.id, 4))
        draft.discard()
        await journal.sync()
        after = reopened(disk.after_power_loss())
        assert after.drafts.get(other.id).read(0, 9) == b"data"

    def test_a_tear_that_cannot_be_cut_stops_the_appends(self, disk: FaultyDisk, journal: Journal) -> None:
        """A record behind garbage would be lost at the next start; so none is taken."""
        journal.append(create(1))
        for number in (1, 2):
            disk.fail_at[len(disk.calls) + number] = DiskFailed("bad sector")
        with pytest.raises(DiskFailed, match="bad sector"):
            journal.append(create(2))
        assert journal.failed
        with pytest.raises(DiskFailed, match="failed"):
            journal.append(create(3))
        journal.checkpoint(None, [create(1)])
        journal.append(create(3))
        assert reopened(disk.after_kill()).recovered.ops == [create(1), create(3)]


class TestWhatIsSetAside:
    async def test_a_damaged_middle(self, disk: FaultyDisk, journal: Journal) -> None:
        """What stands before the damage counts, what stands behind is kept for the user to look at."""
        for number in range(4):
            journal.append(create(number))
        orphan = journal.drafts.new()
        orphan.write(0, b"may belong to a damaged record")
        damaged = disk.after_kill()
        path = f"{FOLDER}/segment-00000001"
        good = damaged.read_file(path)
        damaged.replace_file(path, good.replace(b'"f2"', b'"fX"'))
        after = reopened(damaged)
        assert after.recovered.ops == [create(0), create(1)]
        (aside,) = after.recovered.set_aside
        assert b'"fX"' in damaged.read_file(aside) and b'"f3"' in damaged.read_file(aside)
        after.append(create(9))
        assert await after.sweep() == 1
        kept = damaged.everything()
        assert b"may belong to a damaged record" in kept.values()
        assert set(after.drafts.on_disk()) == set()
        again = reopened(damaged.after_kill())
        assert again.recovered.ops == [create(0), create(1), create(9)]
        assert not again.recovered.set_aside

    def test_a_checkpoint_that_was_not_finished(self, disk: FaultyDisk, journal: Journal) -> None:
        """A kill while the journal begins anew leaves the old one in force."""
        journal.append(create(1))
        journal.checkpoint(BASE, [create(2)])
        torn = disk.after_kill()
        newest = f"{FOLDER}/segment-00000002"
        torn.replace_file(newest, torn.read_file(newest)[:-1])
        after = reopened(torn)
        assert (after.recovered.base, after.recovered.ops) == (None, [create(1)])
        assert after.recovered.set_aside == [f"{FOLDER}/set-aside/segment-00000002"]
        after.checkpoint(OTHER, [])
        assert reopened(torn.after_kill()).recovered.base == OTHER

    def test_zeros_are_worth_nothing(self, disk: FaultyDisk, journal: Journal) -> None:
        """A tail of zeros, as file systems leave after a power loss, is no damage to report."""
        journal.append(create(1))
        after_loss = disk.after_kill()
        path = f"{FOLDER}/segment-00000001"
        after_loss.replace_file(path, after_loss.read_file(path) + bytes(500))
        after_loss.replace_file(f"{FOLDER}/segment-00000002", bytes(100))
        found = reopened(after_loss).recovered
        assert (found.ops, found.set_aside) == ([create(1)], [])

    def test_when_nothing_is_left_it_begins_anew_and_says_so(self, disk: FaultyDisk, journal: Journal) -> None:
        """A bucket opens also when its journal is ruined, and the bytes are set aside."""
        journal.append(create(1))
        ruined = disk.after_kill()
        ruined.replace_file(f"{FOLDER}/segment-00000001", b"rubbish")
        after = reopened(ruined)
        assert (after.recovered.base, after.recovered.ops) == (None, [])
        assert after.recovered.set_aside == [f"{FOLDER}/set-aside/segment-00000001"]

    def test_a_newer_journal_is_left_alone(self, disk: FaultyDisk, journal: Journal) -> None:
        """An older bucketfs must not throw away what a newer one recorded."""
        newer = disk.after_kill()
        path = f"{FOLDER}/segment-00000001"
        newer.replace_file(path, newer.read_file(path) + encode_frame(1, ord("Z"), b"{}"))
        before = newer.everything()
        with pytest.raises(Unsupported) as caught:
            reopened(newer)
        assert "newer" in caught.value.hint
        assert newer.everything() == before
        assert newer.open_files() == 0


async def test_settle_spares_a_draft_that_is_begun_while_it_waits(disk: FaultyDisk) -> None:
    """Bytes are in a draft for a moment before a record names it, and a settle may run in that moment."""
    journal = reopened(disk)
    begun: list[DraftId] = []

    async def write() -> None:
        draft = journal.drafts.new()
        draft.write(0, b"bytes of a file that is being written")
        begun.append(draft.id)

    # Again and again, because which of two tasks goes on first is chance.
    for _ in range(20):
        journal.checkpoint(BASE, [content(draft, 5) for draft in begun])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await journal.compact(set(begun))
        journal.append(content(begun[-1], 5))
        assert journal.drafts.get(begun[-1]).read(0, 5) == b"bytes"
    await journal.compact()
    journal.close()
    after = reopened(disk)
    assert [op.draft for op in after.recovered.ops if isinstance(op, SetContent)] == begun
    after.close()


class TestAtRest:
    """A mount may have more journals than a process may have open files."""

    def test_a_journal_in_which_nothing_was_changed_writes_nothing(self, disk: FaultyDisk) -> None:
        """A mount of thousands of buckets writes nothing for those that are only read."""
        journal = reopened(disk)
        before = len(disk.calls)
        journal.begin(BASE)
        assert disk.calls[before:] == [] and disk.open_files() == 0
        assert not journal.failed and journal.figures().segments == 0
        assert reopened(disk.after_kill()).recovered.base is None

    async def test_its_first_record_stands_on_the_base_it_began_with(self, disk: FaultyDisk) -> None:
        """A first change is replayed on the tree that it was made on."""
        journal = reopened(disk)
        journal.begin(BASE)
        journal.append(create(1))
        assert reopened(disk.after_kill()).recovered.base == BASE
        await journal.sync()
        again = reopened(disk.after_power_loss())
        assert (again.recovered.base, again.recovered.ops) == (BASE, [create(1)])

    async def test_a_compacted_journal_has_no_file_open_and_goes_on(self, disk: FaultyDisk, journal: Journal) -> None:
        """Thousands of journals at rest hold no descriptors."""
        journal.append(create(1))
        assert disk.open_files() == 1
        await journal.compact()
        assert disk.open_files() == 0
        journal.append(create(2))
        await journal.sync()
        assert reopened(disk.after_power_loss()).recovered.ops == [create(1), create(2)]

    async def test_what_may_not_be_durable_stays_open(self, disk: FaultyDisk, journal: Journal) -> None:
        """A failed write-back is told to descriptors of its time; a later one might never hear of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.compact)
            await trio.testing.wait_all_tasks_blocked(0)
            journal.append(create(1))
        assert disk.open_files() == 1

    def test_a_first_removal_on_a_full_disk_uses_the_reserve(self, disk: FaultyDisk) -> None:
        """rm works on a full disk in a bucket that has no journal yet."""
        journal = Journal.open(disk, FOLDER, Resources.below(disk, "", 512))
        journal.begin(BASE)
        disk.capacity_bytes = disk.used_bytes()
        with pytest.raises(NoSpace):
            journal.append(create(1))
        journal.append(Remove("f1", 1), frees_space=True)
        assert reopened(disk.after_kill()).recovered.ops == [Remove("f1", 1)]

    async def test_a_removed_state_folder_is_an_error_of_the_disk(self, tmp_path: Path) -> None:
        """A user who deletes the state folder hears of it, instead of losing changes unnoticed."""
        journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
        journal.checkpoint(BASE, [])
        await journal.compact()
        shutil.rmtree(tmp_path / "journal")
        with pytest.raises(DiskFailed, match="removed"):
            journal.append(create(1))
        journal.close()

    async def test_idle_drafts_make_room_for_a_file_that_is_needed(
        self, disk: FaultyDisk, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the limit of open files the mount goes on."""
        await journal.compact()
        drafts = [journal.drafts.new() for _ in range(3)]
        held = disk.open_files()

        refusals = [TooManyOpen("cannot open the segment")]
        really = disk.open_append

        def open_append(path: str, **options: bool) -> DiskFile:
            if refusals:
                raise refusals.pop()
            return really(path, **options)

        monkeypatch.setattr(disk, "open_append", open_append)
        journal.append(create(1))
        assert (held, disk.open_files()) == (3, 1)
        drafts[0].write(0, b"goes on")
        await journal.sync()

    async def test_a_sync_that_found_no_descriptor_may_be_asked_for_again(self, disk: FaultyDisk, journal: Journal) -> None:
        """Too many open files for a moment is no failed disk."""
        journal.append(create(1))
        disk.fail_at[len(disk.calls) + 2] = TooManyOpen("cannot open the folder")
        with pytest.raises(TooManyOpen):
            await journal.sync()
        await journal.sync()
        assert reopened(disk.after_power_loss()).recovered.ops == [create(1)]
