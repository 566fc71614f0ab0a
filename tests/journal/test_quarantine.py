"""Quarantined changes: kept in the journal, whatever it goes through, until they are exported."""

from __future__ import annotations

import pytest
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.disk import DiskFile
from bucketfs.errors import DiskFailed, Exists
from bucketfs.journal import Change, Journal, Quarantine, Resources, builds_on
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.journal.export import export_changes
from bucketfs.journal.ops import (
    Create,
    MakeDirectory,
    MakeSymlink,
    Place,
    Remove,
    Rename,
    SetAttributes,
    SetContent,
)
from bucketfs.journal.quarantine import QuarantinedFile, files_of, in_words
from bucketfs.journal.record import HEAD_END, Header, encode_frame, encode_header
from bucketfs.types import Cid, DraftId, Inode

FOLDER = "/journal"
BASE = Cid(b"\x01\x70\x12\x20" + b"\x07" * 32)
OTHER = Cid(b"\x01\x70\x12\x20" + b"\x08" * 32)


def create(path: str) -> Create:
    return Create(path, Inode(7), 0o644, None, None, 1, 1)


def folder(path: str) -> MakeDirectory:
    return MakeDirectory(path, Inode(8), 0o755, None, None, 1, 1)


def chmod(path: str) -> SetAttributes:
    return SetAttributes(path, 0o600, None, None, None, 1)


def content(path: str, extents: tuple[tuple[int, int], ...], size: int, draft: int = 1, lower_limit: int = 0) -> SetContent:
    return SetContent(path, DraftId(draft), extents, lower_limit, size, 1, 1)


def opened(disk: FaultyDisk) -> Journal:
    return Journal.open(disk, FOLDER, Resources.below(disk, "", 64))


async def with_one(disk: FaultyDisk) -> Journal:
    """A journal in which the making of one file is quarantined, with its bytes."""
    journal = opened(disk)
    journal.begin(BASE)
    draft = journal.drafts.new()
    draft.write(0, b"precious")
    for change in (create("d/f"), content("d/f", ((0, 8),), 8, draft.id)):
        journal.append(change)
        journal.quarantine.add(change, BASE)
    await journal.seal({draft.id: [(0, 8)]})
    journal.checkpoint(OTHER, [create("other")])
    await journal.compact()
    return journal


async def test_it_outlives_checkpoints_restarts_and_power_losses() -> None:
    """Otherwise what could not be applied would be lost with the next push."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    for number in range(3):
        journal.checkpoint(OTHER, [create(f"again {number}")])
        await journal.compact()
        disk = disk.after_power_loss()
        journal = opened(disk)
        assert journal.recovered.ops == [create(f"again {number}")]
        assert list(journal.quarantine) == [create("d/f"), content("d/f", ((0, 8),), 8)]
        assert [batch.root for batch in journal.quarantine.batches] == [BASE]
        assert await journal.sweep() == 0
        assert journal.drafts.get(DraftId(1)).read(0, 9) == b"precious"
        assert journal.figures().drafts_sealed == 1, "the checksums are kept, too"


async def test_nothing_is_left_of_it_once_it_is_let_go_of() -> None:
    """A quarantine that was exported gives its room back."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    journal.quarantine = Quarantine()
    journal.checkpoint(OTHER, [])
    await journal.compact()
    journal = opened(disk.after_power_loss())
    assert not len(journal.quarantine) and not len(journal.drafts)


def test_what_an_older_bucketfs_put_off_is_quarantined() -> None:
    """It tried such changes again and again; the records are the same."""
    disk = FaultyDisk()
    disk.make_durable_folder(FOLDER)
    text = "baeasaaaa"
    put_off = f'{{"root":"{text}","count":1,"time_ns":5}}'.encode()
    removal = b'{"path":"d/f","time_ns":6}'
    # A root that was proposed from here: no change, and about none of those that are here.
    proposed = f'{{"root":"{text}","time_ns":5}}'.encode()
    frames = [
        ("X", b'{"path":"a","time_ns":1}'),
        ("Q", put_off.replace(b'"count":1', b'"count":2')),
        ("B", proposed),
        ("X", removal),
        ("H", b""),
        ("X", b'{"path":"b","time_ns":9}'),
    ]
    segment = encode_header(Header(1, BASE, DraftId(1)))
    segment += b"".join(encode_frame(index, ord(kind), payload) for index, (kind, payload) in enumerate(frames))
    assert frames[4][0] == chr(HEAD_END)
    disk.replace_file(f"{FOLDER}/segment-00000001", segment)
    journal = opened(disk)
    assert journal.recovered.ops == [Remove("a", 1), Remove("b", 9)]
    assert list(journal.quarantine) == [Remove("d/f", 6)]
    assert journal.quarantine.by_path() == {"d/f": "removed"}


CASES: list[tuple[Change, Change, bool]] = [
    (content("d/f", ((0, 1),), 1), content("d/f", ((1, 2),), 2), True),
    (content("d/f", ((0, 1),), 1), chmod("d"), False),
    (content("d/f", ((0, 1),), 1), create("d/g"), False),
    (content("d/f", ((0, 1),), 1), Rename("d", "e", False, 1), True),
    (content("d/f", ((0, 1),), 1), Remove("d", 1), True),
    (folder("d"), create("d/f"), True),
    (folder("d"), create("dd/f"), False),
    (Rename("d/f", "kept", False, 1), Remove("d", 1), True),
    (Rename("d/f", "kept", False, 1), content("kept", ((0, 1),), 1), True),
    (Rename("d/f", "kept", False, 1), Remove("other", 1), False),
    (chmod(""), create("f"), True),
]


@pytest.mark.parametrize("before, change, wanted", CASES)
def test_which_changes_build_on_one_that_is_not_applied(before: Change, change: Change, wanted: bool) -> None:
    """Were one too few found, two versions of a file would be mixed up; one too many, and work would wait for nothing."""
    assert builds_on(change, [create("elsewhere"), before]) == wanted
    assert not builds_on(change, [])


def parts(file: QuarantinedFile) -> list[tuple[int, int, int]]:
    return [(draft, *interval) for draft, interval in file.parts()]


def test_the_parts_of_a_file_are_those_that_a_reader_would_see() -> None:
    """Bytes that were cut off, or lie under newer ones, do not come back by the export."""
    file = QuarantinedFile()
    file.write(content("f", ((2, 10),), 10, draft=1, lower_limit=20))
    file.write(content("f", ((0, 4),), 6, draft=2, lower_limit=6))
    assert (file.size_bytes, parts(file), file.lost()) == (6, [(1, 2, 6), (2, 0, 4)], [])
    file.write(content("f", ((12, 13),), 13, draft=2, lower_limit=6))
    assert (file.size_bytes, parts(file), file.lost()) == (13, [(1, 2, 6), (2, 0, 4), (2, 12, 13)], [])
    alone = QuarantinedFile()
    alone.write(content("f", ((3, 5),), 9, lower_limit=8))
    assert (parts(alone), alone.lost()) == ([(1, 3, 5)], [(0, 3), (5, 8)])


def test_files_are_where_later_changes_put_them() -> None:
    """The export shows what the user had, not how it came about."""
    changes: list[Change] = [
        create("d/a"),
        content("d/a", ((0, 1),), 1),
        Rename("d", "e", False, 1),
        content("b", ((0, 2),), 2, draft=2),
        Rename("e/a", "b", True, 1),
        content("gone/in", ((0, 3),), 3, draft=3),
        Remove("gone", 1),
        create("later a folder"),
        folder("later a folder"),
    ]
    assert {path: file.size_bytes for path, file in files_of(changes).items()} == {"b": 1, "e/a": 2}


def test_each_change_has_its_words() -> None:
    """The text of an export is read by people."""
    assert [
        in_words(change)
        for change in (
            create("f"),
            MakeSymlink("l", Inode(1), "to", None, None, 1, 1),
            Place("p", Inode(1), BASE, 1, 1),
            chmod("f"),
            Rename("a", "b", False, 1),
            Rename("a", "b", True, 1),
            Remove("f", 1),
        )
    ] == [
        "created 'f'",
        "link created 'l' to 'to'",
        "moved here 'p'",
        "attributes changed 'f' mode=0o600",
        "renamed 'a' to 'b'",
        "exchanged 'a' and 'b'",
        "removed 'f'",
    ]


async def test_an_export_survives_a_power_loss() -> None:
    """The quarantine is let go of after it, so it must be safe by then."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    assert export_changes(disk, journal.drafts, journal.quarantine, "/out") == 1
    left = disk.after_power_loss()
    assert left.read_file("/out/files/d/f") == b"precious"
    assert [line[20:] for line in left.read_file("/out/changes.txt").decode().splitlines()] == [
        "created 'd/f'",
        "written 'd/f'",
    ]
    with pytest.raises(Exists):
        export_changes(disk, journal.drafts, journal.quarantine, "/out")


async def test_an_export_that_stops_anywhere_takes_nothing_away() -> None:
    """It may be made again into another folder."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    disk.calls.clear()
    export_changes(disk, journal.drafts, journal.quarantine, "/out")
    for stop_at in range(1, len(disk.calls) + 1):
        stopped = FaultyDisk()
        journal = await with_one(stopped)
        stopped.calls.clear()
        stopped.stop_at = stop_at
        with pytest.raises(Stopped):
            export_changes(stopped, journal.drafts, journal.quarantine, "/out")
        again = stopped.after_power_loss()
        journal = opened(again)
        assert export_changes(again, journal.drafts, journal.quarantine, "/out again") == 1
        assert again.read_file("/out again/files/d/f") == b"precious"


async def test_damaged_bytes_are_named_and_keep_nothing_else_back() -> None:
    """Damage is never exported as if it were what the user wrote."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    path = journal.drafts.path(DraftId(1))
    disk.replace_file(path, b"spoiled!")
    journal = opened(disk.after_kill())
    out = disk.after_kill()
    export_changes(out, opened(out).drafts, journal.quarantine, "/out")
    assert out.read_file("/out/files/d/f") == bytes(8)
    assert b"bytes 0 to 8 of 'd/f' were damaged by this disk\n" in out.read_file("/out/changes.txt")


async def with_large(disk: FaultyDisk, blocks: int) -> Journal:
    """A journal in which the writing of one large file is quarantined: each of its blocks has its number as bytes."""
    journal = opened(disk)
    journal.begin(BASE)
    draft = journal.drafts.new()
    for number in range(blocks):
        draft.write(number * BLOCK_SIZE, bytes([number + 1]) * BLOCK_SIZE)
    size = blocks * BLOCK_SIZE
    for change in (create("big"), content("big", ((0, size),), size, draft.id)):
        journal.append(change)
        journal.quarantine.add(change, BASE)
    await journal.seal({draft.id: [(0, size)]})
    journal.checkpoint(OTHER, [])
    await journal.compact()
    return journal


async def test_one_bad_block_takes_no_others_along() -> None:
    """A disk that spoiled one block of a film must not cost the MiB around it."""
    disk = FaultyDisk()
    journal = await with_large(disk, 9)
    spoiled = bytearray(disk.read_file(journal.drafts.path(DraftId(1))))
    spoiled[5 * BLOCK_SIZE + 7] ^= 1
    disk.replace_file(journal.drafts.path(DraftId(1)), bytes(spoiled))
    journal = opened(disk.after_kill())
    out = disk.after_kill()
    export_changes(out, opened(out).drafts, journal.quarantine, "/out")
    wanted = b"".join(bytes([0 if number == 5 else number + 1]) * BLOCK_SIZE for number in range(9))
    assert out.read_file("/out/files/big") == wanted
    lines = out.read_file("/out/changes.txt").decode().splitlines()[2:]
    assert lines == [f"bytes {5 * BLOCK_SIZE} to {6 * BLOCK_SIZE} of 'big' were damaged by this disk"]


async def test_a_disk_that_will_not_read_one_file_keeps_back_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else is saved, the file is named, and what could not be read stays quarantined for another try."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    other = journal.drafts.new()
    other.write(0, b"other")
    journal.append(create("d/g"))
    journal.append(content("d/g", ((0, 5),), 5, other.id))
    journal.quarantine.add(create("d/g"), BASE)
    journal.quarantine.add(content("d/g", ((0, 5),), 5, other.id), BASE)
    read = disk.pread

    def failing(file: DiskFile, offset: int, size: int) -> bytes:
        data = read(file, offset, size)
        if data.startswith(b"precious"):
            raise DiskFailed("Input/output error")
        return data

    monkeypatch.setattr(disk, "pread", failing)
    with pytest.raises(DiskFailed, match=r"'d/f'.* stay listed"):
        export_changes(disk, journal.drafts, journal.quarantine, "/out")
    assert disk.read_file("/out/files/d/g") == b"other"
    assert "bytes 0 to 8 of 'd/f' could not be read from this disk" in disk.read_file("/out/changes.txt").decode()
    monkeypatch.undo()
    assert export_changes(disk, journal.drafts, journal.quarantine, "/again") == 2
    assert disk.read_file("/again/files/d/f") == b"precious"


async def test_the_changes_of_two_starts_are_two_files() -> None:
    """A path that was quarantined, made anew by a program, and quarantined again: its two contents are never mixed."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    journal = opened(disk)
    later = journal.drafts.new()
    later.write(2, b"LATER")
    for change in (create("d/f"), content("d/f", ((2, 7),), 7, later.id)):
        journal.quarantine.add(change, OTHER)
    journal.checkpoint(OTHER, [])
    await journal.compact()
    journal = opened(disk)
    assert [batch.root for batch in journal.quarantine.batches] == [BASE, OTHER]
    assert export_changes(disk, journal.drafts, journal.quarantine, "/out") == 2
    assert disk.read_file("/out/files/d/f") == b"precious"
    assert disk.read_file("/out/files-2/d/f") == bytes(2) + b"LATER"
    assert (
        "Made after these were set aside, and without them (files in files-2):"
        in disk.read_file("/out/changes.txt").decode()
    )


async def test_a_file_that_was_renamed_into_a_lost_folder_says_what_is_not_here() -> None:
    """The bytes from before the rename stand in the file of the old name; zeros in their place must be named."""
    disk = FaultyDisk()
    journal = opened(disk)
    journal.begin(BASE)
    draft = journal.drafts.new()
    draft.write(0, b"earlier later")
    for change in (Rename("top", "d", False, 1), content("d/f", ((8, 13),), 13, draft.id)):
        journal.append(change)
        journal.quarantine.add(change, BASE)
    assert export_changes(disk, journal.drafts, journal.quarantine, "/out") == 1
    assert disk.read_file("/out/files/d/f") == bytes(8) + b"later"
    lines = disk.read_file("/out/changes.txt").decode().splitlines()
    assert lines[2:] == ["bytes 0 to 8 of 'd/f' are not here: they are lost, or zeros, or in 'top/f'"]


async def test_a_file_that_goes_on_does_not_change_what_is_quarantined() -> None:
    """The same draft holds a live file and a quarantined change of it: a program that writes on, or cuts the file, must not change
    the bytes that the user is going to save."""
    disk = FaultyDisk()
    journal = await with_one(disk)
    draft = journal.drafts.get(DraftId(1))
    assert not draft.take(0, b"other")
    assert not draft.take(100, b"other")
    draft.cut(0)
    journal.checkpoint(OTHER, [content("live", ((0, 8),), 8)])
    await journal.compact()
    assert draft.sealed_in(200, 300)
    assert export_changes(disk, journal.drafts, journal.quarantine, "/out") == 1
    assert disk.read_file("/out/files/d/f") == b"precious"
    journal.quarantine = Quarantine()
    assert draft.take(100, b"other")
