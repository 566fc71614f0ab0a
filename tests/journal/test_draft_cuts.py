"""What was cut off a draft is given back to the disk behind the checkpoint that does not name it any more, and no byte too much."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from support.faulty_disk import FaultyDisk, Stopped
from support.journal_histories import FOLDER, open_journal

from bucketfs.journal import Extents, Journal
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.journal.ops import Create, Op, SetContent
from bucketfs.types import DraftId, Inode

SIZE = 3 * BLOCK_SIZE
BYTES = b"abc" * BLOCK_SIZE
CUT = BLOCK_SIZE + 10
TAIL = 2 * BLOCK_SIZE + 7
PATH = f"{FOLDER}/drafts/01/0000000000000001"

MADE = Create("f", Inode(1), 0o644, None, None, 1, 1)


def content(draft: DraftId, size: int, *extents: tuple[int, int]) -> SetContent:
    return SetContent("f", draft, extents, 0, size, 1, 1)


def fresh_disk(**faults: int) -> FaultyDisk:
    disk = FaultyDisk(**faults)  # type: ignore[arg-type]
    disk.make_durable_folder("/state")
    return disk


async def write_and_cut(journal: Journal) -> DraftId:
    draft = journal.drafts.new()
    draft.write(0, BYTES)
    journal.append(MADE)
    journal.append(content(draft.id, SIZE, (0, SIZE)))
    await journal.sync()
    journal.append(content(draft.id, CUT))
    draft.cut(CUT)
    return draft.id


async def all_of_it(disk: FaultyDisk) -> None:
    """Cut, grown again in part, given back, cut again, given back."""
    journal = open_journal(disk)
    draft = await write_and_cut(journal)
    journal.drafts.get(draft).write(TAIL, b"tail")
    journal.append(content(draft, TAIL + 4, (TAIL, TAIL + 4)))
    journal.checkpoint(None, [MADE, content(draft, TAIL + 4, (0, CUT), (TAIL, TAIL + 4))])
    await journal.compact({draft})
    journal.append(content(draft, 10))
    journal.drafts.get(draft).cut(10)
    journal.checkpoint(None, [MADE, content(draft, 10, (0, 10))])
    await journal.compact({draft})
    journal.close()


async def test_the_file_is_as_long_as_what_counts() -> None:
    """A file that was cut short gives its room back."""
    disk = fresh_disk()
    journal = open_journal(disk)
    draft = await write_and_cut(journal)
    await journal.compact({draft})
    assert disk.file_size(PATH) == SIZE, "the segment still names all of it"
    journal.checkpoint(None, [MADE, content(draft, CUT, (0, CUT))])
    assert disk.file_size(PATH) == SIZE, "the new segment is not durable"
    await journal.compact({draft})
    assert disk.file_size(PATH) == 2 * BLOCK_SIZE, "whole blocks, for their sums"
    assert journal.drafts.get(draft).read(0, CUT) == BYTES[:CUT]
    journal.close()


async def test_what_was_written_since_the_cut_stays() -> None:
    """Bytes written behind a cut are not trimmed away."""
    disk = fresh_disk()
    journal = open_journal(disk)
    draft = await write_and_cut(journal)
    journal.checkpoint(None, [MADE, content(draft, CUT, (0, CUT))])
    # Between checkpoint and settle: named by no head, and by a record of the new segment.
    journal.drafts.get(draft).write(TAIL, b"tail")
    journal.append(content(draft, TAIL + 4, (TAIL, TAIL + 4)))
    await journal.compact({draft})
    assert disk.file_size(PATH) == SIZE and journal.drafts.get(draft).read(TAIL, 4) == b"tail"
    journal.close()


async def test_sealed_bytes_stay() -> None:
    """A seal that was recorded stays right, whatever is cut."""
    disk = fresh_disk()
    journal = open_journal(disk)
    draft = journal.drafts.new().id
    journal.drafts.get(draft).write(0, BYTES)
    journal.append(MADE)
    journal.append(content(draft, SIZE, (0, SIZE)))
    assert await journal.seal({draft: [(0, SIZE)]}) == set()
    journal.append(content(draft, CUT))
    journal.drafts.get(draft).cut(CUT)
    journal.checkpoint(None, [MADE, content(draft, CUT, (0, CUT))])
    await journal.compact({draft})
    assert disk.file_size(PATH) == SIZE
    journal.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_stop_at_every_call(after: bool) -> None:
    """A power loss may take the record of a cut; the bytes must be there then."""
    whole = fresh_disk()
    trio.run(all_of_it, whole)
    for number in range(1, len(whole.calls) + 1):
        disk = fresh_disk(stop_at=number, stop_after=after)
        with suppress(Stopped, BaseExceptionGroup):
            trio.run(all_of_it, disk)
        for left in (disk.after_kill(), disk.after_power_loss(), disk.after_power_loss(number)):
            check(left, f"stopped at call {number}: {whole.calls[number - 1]}")


def check(disk: FaultyDisk, when: str) -> None:
    journal = open_journal(disk)
    extents, size, draft = state(journal.recovered.ops)
    for start, stop in extents.items():
        found = journal.drafts.get(draft).read(start, stop - start)
        wanted = bytearray(BYTES[start:stop])
        # The bytes are written before their record, so an older state may have these too.
        for at in range(max(start, TAIL), min(stop, TAIL + 4)):
            wanted[at - start] = found[at - start]
            assert found[at - start] in (BYTES[at], b"tail"[at - TAIL]), when
        assert found == bytes(wanted), when
    if size in (SIZE, CUT, 10):
        assert extents.size_bytes == size, when
    journal.close()


def state(ops: list[Op]) -> tuple[Extents, int, DraftId]:
    extents, size, draft = Extents(), 0, DraftId(0)
    for op in ops:
        if isinstance(op, SetContent):
            extents.truncate(op.size_bytes)
            for start, stop in op.extents:
                extents.add(start, stop)
            size, draft = op.size_bytes, op.draft
    return extents, size, draft


async def test_a_checkpoint_that_comes_while_the_one_before_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the durable segment names stays until the newer one is durable, too."""
    disk = fresh_disk()
    journal = open_journal(disk)
    draft = journal.drafts.new()
    draft.write(0, BYTES)
    journal.checkpoint(None, [MADE, content(draft.id, SIZE, (0, SIZE))])
    decide = journal._decide_compaction

    def another_meanwhile(candidates: set[DraftId]) -> list[str]:
        paths = decide(candidates)
        journal.append(content(draft.id, CUT))
        draft.cut(CUT)
        journal.checkpoint(None, [MADE, content(draft.id, CUT, (0, CUT))])
        return paths

    monkeypatch.setattr(journal, "_decide_compaction", another_meanwhile)
    await journal.compact({draft.id})
    monkeypatch.undo()
    assert disk.file_size(PATH) == SIZE
    await journal.compact({draft.id})
    assert disk.file_size(PATH) == 2 * BLOCK_SIZE
