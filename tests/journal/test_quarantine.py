"""Quarantined changes: kept in the journal, whatever it goes through, until they are exported."""

from __future__ import annotations

import pytest
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.errors import Exists
from bucketfs.journal import Change, Journal, Quarantine, Resources, builds_on
from bucketfs.journal.export import export_changes
from bucketfs.journal.quarantine import QuarantinedFile, files_of, in_words
from bucketfs.journal.record import HEAD_END, Header, encode_frame, encode_header
from bucketfs.ops import (
    Create,
    MakeDirectory,
    MakeSymlink,
    Place,
    Remove,
    Rename,
    SetAttributes,
    SetContent,
)
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
        assert journal.quarantine.root == BASE
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
    frames = [
        ("X", b'{"path":"a","time_ns":1}'),
        ("Q", put_off),
        ("X", removal),
        ("H", b""),
        ("X", b'{"path":"b","time_ns":9}'),
    ]
    segment = encode_header(Header(1, BASE, DraftId(1)))
    segment += b"".join(encode_frame(index, ord(kind), payload) for index, (kind, payload) in enumerate(frames))
    assert frames[3][0] == chr(HEAD_END)
    disk.replace_file(f"{FOLDER}/segment-00000001", segment)
    journal = opened(disk)
    assert journal.recovered.ops == [Remove("a", 1), Remove("b", 9)]
    assert list(journal.quarantine) == [Remove("d/f", 6)]


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
