"""The builder of trees: what it makes of files that are fed to it, and how much of them it holds."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import pytest
from support.memory_remote import MemoryRemote
from support.unixfs import build_file

from bucketfs.dag import LEAF_SIZE, cid_of, drive, list_directory
from bucketfs.errors import BucketfsError, Denied, DiskFailed, Unavailable
from bucketfs.remote import Block, LeafRun, NodeSource, Outcome, Part, TreeBuilder, windows
from bucketfs.remote.builder import LEAVES_PER_HOP, SMALL_FILES_PER_HOP
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes

MODE = NodeAttributes(mode=0o600, mtime_ns=7)


@dataclass(eq=False)
class FedFile:
    """A file as a feed gives it: the parts, and what may go wrong after them."""

    given: Sequence[Part]
    size_bytes: int
    attributes: NodeAttributes = MODE
    link_to: bytes | None = None
    fails: BucketfsError | None = None
    closed: list[bool] = field(default_factory=list)

    def target(self) -> bytes | None:
        return self.link_to

    def parts(self) -> Generator[Part]:
        try:
            yield from self.given
            if self.fails is not None:
                raise self.fails
        finally:
            self.closed.append(True)


def fed(data: bytes, attributes: NodeAttributes = MODE, size_bytes: int | None = None) -> FedFile:
    leaves = [data[at : at + LEAF_SIZE] for at in range(0, len(data), LEAF_SIZE)]
    return FedFile(leaves, len(data) if size_bytes is None else size_bytes, attributes)


class Built:
    """What a builder emitted, batch by batch, and what became of each file."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.store: dict[Cid, bytes] = {}
        self.outcomes: dict[FedFile, Outcome] = {}
        self.read: list[int] = []
        self.wanted = True

    async def emit(self, blocks: Sequence[Block]) -> None:
        self.batches.append(len(blocks))
        self.store.update(blocks)

    async def done(self, file: FedFile, outcome: Outcome) -> bool:
        self.outcomes[file] = outcome
        return self.wanted

    def link(self, file: FedFile) -> Link:
        outcome = self.outcomes[file]
        assert not isinstance(outcome, BucketfsError)
        return outcome.link

    def builder(self) -> TreeBuilder:
        return TreeBuilder(NodeSource(MemoryRemote()), self.emit, self.read.append)


@pytest.mark.parametrize("attributes", [NO_ATTRIBUTES, MODE])
async def test_files_are_what_any_other_builder_makes_of_them(attributes: NodeAttributes) -> None:
    """Else the same bytes would be stored twice, once for each way to push them."""
    built = Built()
    contents = [b"", b"x", b"y" * LEAF_SIZE, b"z" * (LEAF_SIZE + 1), b"w" * (40 * LEAF_SIZE + 3)]
    files = [fed(data, attributes) for data in contents]
    await built.builder().files(files, built.done)
    for data, file in zip(contents, files, strict=True):
        whole = build_file(data, attributes)
        assert built.link(file) == whole.link
        assert whole.blocks.items() <= built.store.items()
    assert sum(built.read) == sum(map(len, contents))


async def test_small_files_share_a_hop_and_large_ones_come_in_rows() -> None:
    """Ten thousand notes must not take ten thousand threads; a film must not fill the memory."""
    built = Built()
    small = [fed(b"%d" % number) for number in range(SMALL_FILES_PER_HOP + 1)]
    large = fed(bytes(range(256)) * 1024 * 40)
    await built.builder().files([small[0], large, *small[1:]], built.done)
    assert len(built.outcomes) == len(small) + 1
    assert built.batches[0] == SMALL_FILES_PER_HOP, "all small files but one in the first batch"
    assert max(built.batches[2:]) <= LEAVES_PER_HOP + 1


async def test_one_unreadable_file_ends_no_other() -> None:
    """A bad sector in one file must not end the push of all others, and its descriptor is given back."""
    built = Built()
    bad, bad_large, good = (
        FedFile([b"x"], 1, fails=DiskFailed("bad sector")),
        FedFile([b"x" * LEAF_SIZE] * 20, 20 * LEAF_SIZE, fails=Denied("not yours")),
        fed(b"good"),
    )
    await built.builder().files([bad, bad_large, good], built.done)
    assert isinstance(built.outcomes[bad], DiskFailed) and isinstance(built.outcomes[bad_large], Denied)
    assert built.link(good) == build_file(b"good", MODE).link
    assert bad.closed == bad_large.closed == [True]
    with pytest.raises(Denied):
        await built.builder().file(bad_large)


async def test_what_cannot_be_sent_ends_all() -> None:
    """An outage is no fault of the file that was read just then: the push is tried again, not done without it."""

    async def emit(blocks: Sequence[Block]) -> None:
        raise Unavailable("away")

    built, file = Built(), fed(b"x" * (2 * LEAF_SIZE))
    with pytest.raises(Unavailable):
        await TreeBuilder(NodeSource(MemoryRemote()), emit).files([file], built.done)
    assert file.closed == [True] and not built.outcomes


async def test_a_small_file_that_has_grown_is_built_whole() -> None:
    """A log that was written to since it was looked at must not be cut off."""
    built = Built()
    data = b"g" * (3 * LEAF_SIZE + 1)
    file = fed(data, size_bytes=5)
    await built.builder().files([file], built.done)
    assert built.link(file) == build_file(data, MODE).link


async def test_what_is_known_is_neither_read_nor_sent() -> None:
    """A change of one leaf of a large file costs that leaf."""
    zeros = bytes(LEAF_SIZE)
    built = Built()
    file = FedFile([LeafRun(cid_of(zeros), LEAF_SIZE, 4000), b"end"], 4000 * LEAF_SIZE + 3)
    await built.builder().files([file], built.done)
    assert cid_of(zeros) not in built.store
    assert built.read == [3]
    assert built.link(file) == build_file(zeros * 4000 + b"end", MODE).link


async def test_blocks_that_are_not_wanted_are_not_emitted() -> None:
    """A second push of unchanged small files sends nothing."""
    built = Built()
    built.wanted = False
    await built.builder().files([fed(b"same"), FedFile([], 0, link_to=b"target")], built.done)
    assert not built.store and len(built.outcomes) == 2


async def test_a_directory_of_many_names_is_built_beside_the_loop() -> None:
    """A folder of thousands of files must not hold up everything else; it is the same folder as ever."""
    built = Built()
    link = build_file(b"x").link
    directory = await built.builder().directory(None, {b"%d" % number: link for number in range(2000)}, MODE)
    entries = drive(list_directory(directory.link.cid), lambda cids: {cid: directory.blocks[cid] for cid in cids}).entries
    assert len(entries) == 2000


def test_windows_are_cut_by_bytes_and_by_count() -> None:
    """A question to the Hub must stay within its limits, and carry as much as it can."""
    assert list(windows([5, 5, 1, 9], lambda size: size, 10)) == [[5, 5], [1, 9]]
    assert list(windows("abcde", lambda _: 0, count_max=2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(windows([], lambda _: 0)) == []
