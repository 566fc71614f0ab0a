"""Folders pushed into a bucket and pulled out again, over a Remote in memory that counts what it is asked."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.machine import put
from support.memory_remote import MemoryRemote
from support.unixfs import build_file

from bucketfs.client import PutResult
from bucketfs.dag import (
    block_links,
    cid_of,
    drive,
    list_directory,
    resolve,
)
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    Unavailable,
)
from bucketfs.transfer import LocalEntry, LocalFs, PullOptions, PushOptions, move_path, pull_folder, push_folder
from bucketfs.types import Cid, Link, UploadId

LEAF = 262144


@dataclass
class WholeRemote(MemoryRemote):
    """Counts what it is asked, and misses also blocks that were lost below the old root. Each of ``events`` happens at one swap: an
    error, or another root."""

    calls: list[str] = field(default_factory=list)
    fetched: int = 0
    events: list[Exception | Cid] = field(default_factory=list)

    def give(self, path: str, data: bytes = b"x") -> None:
        """Another client's push of one file."""
        self.at = self.with_file(path, data)

    def with_file(self, path: str, data: bytes) -> Cid:
        """The root that another client makes with one file more."""
        before = self.at
        put(self, path, data)
        root, self.at = self.at, before
        return root

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        self.calls.append("blocks")
        self.fetched += len(cids)
        return await super().blocks(cids)

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        self.calls.append("missing")
        return await super().missing(cids, upload)

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        self.calls.append("put")
        return await super().put(batches, upload)

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        self.calls.append("swap")
        if self.events:
            event = self.events.pop(0)
            if isinstance(event, Exception):
                raise event
            self.at = event
        lacking = [cid for cid in self.reachable(new) if cid not in self.store]
        if lacking:
            raise BlocksMissing("blocks are missing", cids=lacking)
        await super().swap(expected, new, upload)

    def reachable(self, root: Cid) -> set[Cid]:
        found, todo = set(), [root]
        while todo:
            cid = todo.pop()
            if cid not in found:
                found.add(cid)
                todo += block_links(cid, self.store[cid]) if cid in self.store else []
        return found

    def names(self, path: Sequence[bytes] = ()) -> list[bytes]:
        link = drive(resolve(self.at, path), self._get) if path else Link(self.at, 0)
        assert link is not None
        return [name for name in drive(list_directory(link.cid), self._get).entries if name != b".textileseed"]


@pytest.fixture
def remote() -> WholeRemote:
    return WholeRemote()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small folder with one of everything."""
    top = tmp_path / "tree"
    rng = random.Random(7)
    (top / "deep/er").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "small.txt").write_text("hello")
    (top / "none").touch()
    (top / "leaf").write_bytes(rng.randbytes(LEAF))
    (top / "big").write_bytes(rng.randbytes(3 * LEAF + 17))
    (top / "zeros").write_bytes(bytes(20 * LEAF))
    (top / "deep/er/übung \U0001f600").write_text("x" * 1000)
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o755)
    os.symlink("../big", top / "deep/link")
    os.symlink("nowhere", top / "dangling")
    for number, path in enumerate(sorted(top.rglob("*"))):
        time_ns = 1_600_000_000_123_456_789 + number * 1_000_000_001
        os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
    (top / "empty").chmod(0o750)
    os.utime(top / "deep", ns=(1, 1))
    os.utime(top, ns=(77, 1_500_000_000_000_000_001))
    return top


def picture(top: Path) -> dict[str, tuple[object, ...]]:
    """All that should survive a round trip."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        if path.is_symlink():
            body: object = os.readlink(path)
        else:
            body = path.read_bytes() if path.is_file() else sorted(item.name for item in path.iterdir())
        mode = None if path.is_symlink() else status.st_mode
        seen[str(path.relative_to(top))] = (mode, status.st_mtime_ns, body)
    return seen


async def test_round_trip(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """What was pushed comes back the same: bytes, modes, times, links, odd names."""
    before = picture(tree)
    pushed = await push_folder(remote, tree)
    assert (pushed.files, pushed.folders, pushed.symlinks, pushed.skipped) == (7, 4, 2, [])
    assert remote.calls.count("swap") == remote.calls.count("put") == 1
    pulled = await pull_folder(remote, tmp_path / "back")
    assert (pulled.files, pulled.folders, pulled.symlinks, pulled.skipped) == (7, 4, 2, [])
    assert picture(tmp_path / "back") == before == picture(tree)
    assert pulled.root == pushed.root == remote.at


async def test_zeros_become_holes(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """A sparse image pulled again does not fill the disk with zeros."""
    await push_folder(remote, tree)
    await pull_folder(remote, tmp_path / "back")
    assert (tmp_path / "back/zeros").stat().st_blocks * 512 < 2 * LEAF


async def test_a_second_push_sends_nothing_and_reads_no_large_file(remote: WholeRemote, tree: Path) -> None:
    """Else a nightly backup would read and send everything each night."""
    await push_folder(remote, tree)
    (tree / "big").chmod(0)  # Root reads it all the same, so the count of calls is what tells.
    (tree / "big").chmod(0o644)
    remote.calls.clear()
    remote.fetched = 0
    again = await push_folder(remote, tree)
    assert "swap" not in remote.calls
    assert "missing" not in remote.calls
    assert again.sent.bytes_sent == 0
    assert again.unchanged == 9
    # Folders, and the root blocks of the two large files: nothing else was asked for.
    assert remote.fetched <= 6


async def test_only_the_change_is_sent(remote: WholeRemote, tree: Path) -> None:
    """An edit of a large file sends the leaves that changed."""
    await push_folder(remote, tree)
    with (tree / "zeros").open("r+b") as file:
        file.seek(5 * LEAF)
        file.write(b"news")
    pushed = await push_folder(remote, tree)
    assert LEAF <= pushed.sent.bytes_sent < 2 * LEAF


async def test_a_changed_mode_reads_nothing(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """Else a chmod would read a large file."""
    await push_folder(remote, tree)
    (tree / "big").chmod(0o711)
    pushed = await push_folder(remote, tree)
    assert pushed.sent.bytes_made < LEAF
    await pull_folder(remote, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(tree)


async def test_a_pull_skips_what_is_there(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """Else each pull would fetch everything."""
    await push_folder(remote, tree)
    back = tmp_path / "back"
    await pull_folder(remote, back)
    inodes = {path: path.lstat().st_ino for path in back.rglob("*") if path.is_file() and not path.is_symlink()}
    # A touched file has the content still: only its mtime is put right. One that was changed in length is fetched.
    os.utime(back / "big", ns=(5, 5))
    (back / "small.txt").write_text("hello, hello")
    remote.fetched = 0
    pulled = await pull_folder(remote, back)
    assert pulled.unchanged == 8
    # Four folders, two large files, and the one that changed.
    assert remote.fetched == 7
    assert picture(back) == picture(tree)
    assert {path for path, inode in inodes.items() if path.lstat().st_ino != inode} == {back / "small.txt"}


async def test_reread_sees_what_size_and_mtime_hide(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """With --reread a change that kept size and mtime is found."""
    await push_folder(remote, tree)
    status = (tree / "big").stat()
    data = bytearray((tree / "big").read_bytes())
    data[0] ^= 1
    (tree / "big").write_bytes(data)
    os.utime(tree / "big", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert (await push_folder(remote, tree)).unchanged == 9
    assert (await push_folder(remote, tree, options=PushOptions(reread=True))).unchanged == 8
    back = tmp_path / "back"
    await pull_folder(remote, back)
    (back / "big").write_bytes(bytes(len(data)))
    os.utime(back / "big", ns=(status.st_mtime_ns, status.st_mtime_ns))
    await pull_folder(remote, back)
    assert (back / "big").read_bytes() != data
    await pull_folder(remote, back, options=PullOptions(reread=True))
    assert (back / "big").read_bytes() == data


async def test_without_attributes_cids_are_those_of_other_clients(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """With --no-attributes the CIDs are those that IPFS tools make."""
    await push_folder(remote, tree, options=PushOptions(attributes=False))
    entries = drive(list_directory(remote.at), remote._get).entries
    assert entries[b"small.txt"].cid == cid_of(b"hello")
    assert entries[b"big"].cid == build_file((tree / "big").read_bytes()).link.cid
    back = tmp_path / "back"
    await pull_folder(remote, back)
    assert {path: seen[2] for path, seen in picture(back).items()} == {path: seen[2] for path, seen in picture(tree).items()}
    assert (await pull_folder(remote, back)).unchanged == 7


async def test_push_lays_over_and_delete_mirrors(remote: WholeRemote, tree: Path) -> None:
    """Without --delete nothing is removed from the bucket; with it, what is not here is."""
    remote.at = remote.with_file("deep/theirs", b"1")
    remote.at = remote.with_file(".textileseed", b"seed")
    await push_folder(remote, tree)
    assert remote.names([b"deep"]) == [b"er", b"link", b"theirs"]
    pushed = await push_folder(remote, tree, options=PushOptions(delete=True))
    assert pushed.removed == 1
    assert remote.names([b"deep"]) == [b"er", b"link"]
    assert drive(resolve(remote.at, [b".textileseed"]), remote._get) is not None


async def test_pull_lays_over_and_delete_mirrors(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """Without --delete nothing is removed here; with it, what is not in the bucket is."""
    remote.at = remote.with_file(".textileseed", b"seed")
    await push_folder(remote, tree)
    back = tmp_path / "back"
    (back / "extra/in").mkdir(parents=True)
    (back / "extra/in/file").touch()
    (back / "mine").touch()
    await pull_folder(remote, back)
    assert (back / "extra/in/file").exists()
    assert not (back / ".textileseed").exists()
    pulled = await pull_folder(remote, back, options=PullOptions(delete=True))
    assert pulled.removed == 2
    assert picture(back) == picture(tree)


async def test_a_prefix_is_made_and_only_it_changes(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """A push below a path leaves the rest of the bucket alone."""
    remote.at = remote.with_file("other", b"1")
    other = drive(list_directory(remote.at), remote._get).entries[b"other"]
    await push_folder(remote, tree, (b"a", b"b"))
    assert remote.names() == [b"a", b"other"]
    assert drive(list_directory(remote.at), remote._get).entries[b"other"] == other
    await pull_folder(remote, tmp_path / "back", (b"a", b"b"))
    assert picture(tmp_path / "back") == picture(tree)


async def test_one_file_each_way(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """A single file is pushed and pulled under the name that the user gave."""
    await push_folder(remote, tree / "big", (b"in", b"new name"))
    assert remote.names([b"in"]) == [b"new name"]
    await pull_folder(remote, tmp_path / "copy", (b"in", b"new name"))
    assert (tmp_path / "copy").read_bytes() == (tree / "big").read_bytes()
    (tmp_path / "into").mkdir()
    await pull_folder(remote, tmp_path / "into", (b"in", b"new name"))
    assert (tmp_path / "into/new name").stat().st_mtime_ns == (tree / "big").stat().st_mtime_ns
    # The same again changes nothing, and needs no swap.
    remote.calls.clear()
    await push_folder(remote, tree / "big", (b"in", b"new name"))
    assert "swap" not in remote.calls


async def test_a_root_that_moved_is_pushed_onto(remote: WholeRemote, tree: Path, autojump_clock: object) -> None:
    """Another client's push at the same time is not lost."""
    remote.events = [remote.with_file("theirs", b"1")]
    await push_folder(remote, tree)
    assert b"theirs" in remote.names()
    assert b"big" in remote.names()
    assert remote.calls.count("swap") == 2


async def test_an_outage_is_waited_out(remote: WholeRemote, tree: Path, autojump_clock: object) -> None:
    """A short outage does not end a long push."""
    remote.events = [Unavailable("away"), Unavailable("away")]
    await push_folder(remote, tree)
    assert b"big" in remote.names()
    remote.events = [Unavailable("away")] * 99
    (tree / "small.txt").write_text("new")
    with pytest.raises(Unavailable):
        await push_folder(remote, tree)


async def test_what_cannot_be_carried_is_said(remote: WholeRemote, tmp_path: Path) -> None:
    """The user hears of every file that is not in the bucket."""
    top = tmp_path / "odd"
    top.mkdir()
    os.mkfifo(top / "pipe")
    (top / "good").touch()
    os.mknod(os.path.join(os.fsencode(top), b"\xff\xfe"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
        pushed = await push_folder(remote, top)
    assert [item.path for item in pushed.skipped] == ["pipe", "socket", "\udcff\udcfe"]
    assert remote.names() == [b"good"]


async def test_a_file_does_not_replace_a_folder_unasked(remote: WholeRemote, tmp_path: Path) -> None:
    """Else a mistyped target would delete a folder of the bucket."""
    remote.at = remote.with_file("name/inside", b"1")
    top = tmp_path / "top"
    top.mkdir()
    (top / "name").write_text("file")
    with pytest.raises(IsADirectory):
        await push_folder(remote, top)
    await push_folder(remote, top, options=PushOptions(delete=True))
    (tmp_path / "back/name").mkdir(parents=True)
    pulled = await pull_folder(remote, tmp_path / "back")
    assert [item.path for item in pulled.skipped] == ["name"]
    assert (tmp_path / "back/name").is_dir()
    await pull_folder(remote, tmp_path / "back", options=PullOptions(delete=True))
    assert (tmp_path / "back/name").read_text() == "file"


async def test_a_pull_never_writes_through_a_symlink(remote: WholeRemote, tmp_path: Path) -> None:
    """Else a bucket could write anywhere on this machine."""
    remote.at = remote.with_file("etc/passwd", b"evil")
    remote.at = remote.with_file("file", b"evil")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    back = tmp_path / "back"
    back.mkdir()
    os.symlink(outside, back / "etc")
    os.symlink(outside / "file", back / "file")
    pulled = await pull_folder(remote, back)
    assert [item.path for item in pulled.skipped] == ["etc"] and "symlink" in pulled.skipped[0].reason
    assert not (back / "file").is_symlink()
    await pull_folder(remote, back, options=PullOptions(delete=True))
    assert (back / "etc/passwd").read_text() == "evil"
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "precious"


async def test_a_file_that_the_hub_has_lost_stays_as_it_was_here(remote: WholeRemote, tree: Path, tmp_path: Path) -> None:
    """Damage at the Hub must not destroy the good local file."""
    await push_folder(remote, tree)
    back = tmp_path / "back"
    back.mkdir()
    (back / "big").write_text("old")
    leaf = (tree / "big").read_bytes()[2 * LEAF : 3 * LEAF]
    del remote.store[cid_of(leaf)]
    pulled = await pull_folder(remote, back)
    assert [item.path for item in pulled.skipped] == ["big"]
    assert (back / "big").read_text() == "old"
    assert not [name for name in os.listdir(back) if name.startswith(".bucketfs")]


async def test_what_is_not_there(remote: WholeRemote, tmp_path: Path) -> None:
    """The user hears that a path does not exist, on either side."""
    with pytest.raises(NotFound):
        await push_folder(remote, tmp_path / "nowhere")
    with pytest.raises(NotFound):
        await pull_folder(remote, tmp_path / "back", (b"nowhere",))
    assert not (tmp_path / "back").exists()


async def test_depth_beyond_the_stack_of_python(remote: WholeRemote, tmp_path: Path) -> None:
    """A very deep folder is pushed and pulled like any other."""
    top = tmp_path / "t"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    pushed = await push_folder(remote, top)
    assert pushed.folders == 1201
    (tmp_path / "b").mkdir()
    pulled = await pull_folder(remote, tmp_path / "b/t")
    assert pulled.folders == 1201
    # Emptied the same way, which also spares the test runner a tree that it cannot remove.
    empty = await pull_folder(WholeRemote(), tmp_path / "b/t", options=PullOptions(delete=True))
    assert empty.removed == 1
    await pull_folder(WholeRemote(), top, options=PullOptions(delete=True))


async def test_what_the_hub_lost_is_offered_again(
    remote: WholeRemote, tree: Path, tmp_path: Path, autojump_clock: object
) -> None:
    """Blocks that the Hub lost are sent again with the next push."""
    await push_folder(remote, tree)
    data = (tree / "big").read_bytes()
    for cid in (cid_of(data[LEAF : 2 * LEAF]), cid_of((tree / "deep/er/übung \U0001f600").read_bytes())):
        remote.store.pop(cid, None)
    (tree / "small.txt").write_text("new")
    await push_folder(remote, tree)
    await pull_folder(remote, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(tree)


async def test_a_file_that_grows_while_it_is_read(remote: WholeRemote, tmp_path: Path) -> None:
    """A log that is being written is in the bucket whole as far as it was read."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "log").write_bytes(b"small")

    class GrowingFs(LocalFs):
        def scan(self, folder: bytes) -> list[LocalEntry]:
            entries = super().scan(folder)
            with (top / "log").open("ab") as file:
                file.write(bytes(3 * LEAF))
            return entries

    await push_folder(remote, top, fs=GrowingFs())
    await pull_folder(remote, tmp_path / "back")
    assert (tmp_path / "back/log").read_bytes() == (top / "log").read_bytes()
    assert (await push_folder(remote, top)).unchanged == 0


# Something of another kind stands there


async def test_a_folder_does_not_take_the_place_of_a_file_of_the_bucket(remote: WholeRemote, tmp_path: Path) -> None:
    """Else a push could destroy the only copy of a file."""
    remote.give("doc", b"the only copy")
    top = tmp_path / "top"
    (top / "doc").mkdir(parents=True)
    (top / "doc/new").write_text("new")
    before = remote.at
    for path in ((), (b"doc",), (b"doc", b"below")):
        with pytest.raises(NotADirectory):
            await push_folder(remote, top, path)
    assert remote.at == before
    await push_folder(remote, top, options=PushOptions(delete=True))
    assert remote.names([b"doc"]) == [b"new"]


async def test_a_folder_of_the_bucket_does_not_take_the_place_of_a_file_here(remote: WholeRemote, tmp_path: Path) -> None:
    """Else a pull could destroy the only copy of a file."""
    remote.give("dir/doc/x", b"theirs")
    remote.give("dir/other")
    mine, back = tmp_path / "mine", tmp_path / "back"
    mine.write_text("the only copy")
    with pytest.raises(NotADirectory):
        await pull_folder(remote, mine, (b"dir",))
    back.mkdir()
    (back / "doc").write_text("the only copy")
    pulled = await pull_folder(remote, back, (b"dir",))
    assert [item.path for item in pulled.skipped] == ["dir/doc"]
    assert (back / "other").read_text() == "x"
    assert mine.read_text() == (back / "doc").read_text() == "the only copy"
    await pull_folder(remote, back, (b"dir",), PullOptions(delete=True))
    assert (back / "doc/x").read_text() == "theirs"


async def test_a_file_goes_into_a_folder(remote: WholeRemote, tmp_path: Path) -> None:
    """As with cp, a file goes into a folder that is named as its target."""
    file = tmp_path / "f"
    file.write_text("text")
    remote.give("dir/other")
    await push_folder(remote, file)
    await push_folder(remote, file, (b"dir",), PushOptions(delete=True))
    await push_folder(remote, file, (b"new",), PushOptions(into=True))
    assert (remote.names(), remote.names([b"dir"]), remote.names([b"new"])) == (
        [b"dir", b"f", b"new"],
        [b"f", b"other"],
        [b"f"],
    )
    with pytest.raises(NotADirectory):
        await push_folder(remote, file, (b"new", b"f"), PushOptions(into=True))


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("a", "to", IsADirectory),  # to/a is a folder
        ("folder", "to", NotADirectory),  # to/folder is a file
        ("folder", "to/folder", NotADirectory),
        ("folder", "into", NotEmpty),
        ("to", "to/a", InvalidArgument),
        ("nothing", "x", NotFound),
        ("a/below", "x", NotFound),
    ],
)
async def test_a_move_that_would_replace_something_else(
    remote: WholeRemote, old: str, new: str, kind: type[BucketfsError]
) -> None:
    """As with mv, a move destroys nothing of another kind."""
    for path in ("a", "to/a/full", "to/folder", "folder/x", "into/folder/full"):
        remote.give(path)
    before = remote.at
    with pytest.raises(kind):
        await move_path(remote, (*old.encode().split(b"/"),), (*new.encode().split(b"/"),))
    assert remote.at == before


async def test_a_move_is_one_swap(remote: WholeRemote) -> None:
    """Also between names of which one begins with the other."""
    remote.give("report", b"text")
    remote.give("dir/old")
    for old, new, names in (
        ((b"report",), (b"report.old",), [b"dir", b"report.old"]),
        ((b"report.old",), (b"report",), [b"dir", b"report"]),
        ((b"report",), (b"dir", b"old"), [b"dir"]),  # a file takes the place of a file
        ((b"dir",), (b"deep", b"er"), [b"deep"]),
        ((b"deep", b"er", b"old"), (), [b"deep", b"old"]),
    ):
        remote.calls.clear()
        await move_path(remote, old, new)
        assert remote.names() == names and remote.calls.count("swap") == 1
    assert remote._get([remote.at])
    await move_path(remote, (b"old",), (b"fresh",), into=True)
    assert remote.names([b"fresh"]) == [b"old"]


async def test_a_move_beside_another_change_is_done_again(remote: WholeRemote) -> None:
    """Another client's change at the same time is not lost."""
    remote.give("a")
    remote.events = [remote.with_file("b", b"theirs")]
    await move_path(remote, (b"a",), (b"c",))
    assert remote.names() == [b"b", b"c"]


async def test_a_path_that_is_too_long_here_leaves_the_others(remote: WholeRemote, tmp_path: Path) -> None:
    """One path that is too long must not stop the other files."""
    remote.give("/".join(["n" * 250] * 17) + "/leaf")
    remote.give("z", b"last")
    pulled = await pull_folder(remote, tmp_path / "back")
    assert len(pulled.skipped) == 1
    assert (tmp_path / "back/z").read_text() == "last"
