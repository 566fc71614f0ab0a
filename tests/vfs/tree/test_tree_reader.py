"""How decisions ask for results, and computations for blocks: `bucketfs.vfs.tree.tree_reader` over a source that counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest
import trio.testing
from support.dict_source import DictSource

from bucketfs.dag import cid_of, drive, edit_directory, list_directory
from bucketfs.errors import NotADirectory, NotFound, Unavailable
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.tree.base_tree import DAMAGED_S, BaseTree
from bucketfs.vfs.tree.tree_reader import TreeReader, Unreadable, Wanted, root_info, together

FOLDERS = 40


class Memory(DictSource):
    """A source with everything in memory."""

    def peek(self, cid: Cid) -> bytes | None:
        return self.blocks.get(cid)


def folders() -> tuple[dict[Cid, bytes], list[Cid]]:
    """The blocks of many folders, and their CIDs."""
    blocks: dict[Cid, bytes] = {}
    cids: list[Cid] = []
    for number in range(FOLDERS):
        built = drive(edit_directory(None, {b"%d" % number: Link(cid_of(b"x"), 1)}), no_blocks)
        blocks |= built.blocks
        cids.append(built.link.cid)
    return blocks, cids


def no_blocks(cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
    return {}


def names(reader: TreeReader, cid: Cid) -> list[bytes]:
    return list(reader.read(list_directory, cid).entries)


async def test_what_is_in_memory_is_answered_without_an_await() -> None:
    """A `stat` of a cached file waits for no disk, no Hub and no other task."""
    blocks, (cid, *_) = folders()
    reader = TreeReader(Memory(blocks))
    with trio.testing.assert_no_checkpoints():
        assert await reader.load(lambda: names(reader, cid)) == [b"0"]


async def test_what_many_looks_lack_is_one_request() -> None:
    """Listing a folder with many entries waits for the line once, not for each of them."""
    blocks, cids = folders()
    source = DictSource(blocks)
    reader = TreeReader(source)
    found = await reader.load(lambda: together(lambda cid: names(reader, cid), cids))
    assert found == [[b"%d" % number] for number in range(FOLDERS)]
    assert len(source.asked) == 1
    assert await reader.load(lambda: names(reader, cids[7])) == [b"7"]
    assert len(source.asked) == 1, "results are remembered"


async def test_an_attempt_that_looks_one_by_one_is_repeated() -> None:
    """An operation that finds out what it needs step by step ends with the right answer."""
    blocks, cids = folders()
    source = DictSource(blocks)
    reader = TreeReader(source)
    attempts = 0

    def attempt() -> int:
        nonlocal attempts
        attempts += 1
        return sum(len(names(reader, cid)) for cid in cids[:3])

    assert await reader.load(attempt) == 3
    assert attempts == 4 and len(source.asked) == 3


async def test_a_lost_block_stops_only_what_needs_it() -> None:
    """One damaged folder hides no other, and costs no request for each of them."""
    blocks, cids = folders()
    lost = cids[11]
    del blocks[lost]
    source = DictSource(blocks)
    reader = TreeReader(source)

    def look(cid: Cid) -> list[bytes] | None:
        try:
            return names(reader, cid)
        except Unreadable as unreadable:
            assert unreadable.missing == {cid}
            return None

    found = await reader.load(lambda: together(look, cids))
    assert [number for number, one in enumerate(found) if one is None] == [11]
    assert len(source.asked) < FOLDERS / 2


async def test_a_lost_block_is_no_missing_name_and_its_cause_comes_out() -> None:
    """A program that creates what it does not find never replaces a file whose block is lost."""
    _, (cid, *_) = folders()
    reader = TreeReader(DictSource({}))

    def attempt() -> list[bytes]:
        try:
            return names(reader, cid)
        except NotFound:
            pytest.fail("a lost block was taken for a missing name")

    with pytest.raises(NotFound):
        await reader.load(attempt)
    raw = cid_of(b"no folder")
    with pytest.raises(NotADirectory):
        await reader.load(lambda: names(reader, raw))


async def test_a_failure_is_asked_for_again_by_the_next_attempt() -> None:
    """A block that the Hub has again is found without a new mount."""
    blocks, (cid, *_) = folders()
    source = DictSource({})
    reader = TreeReader(source)
    with pytest.raises(NotFound):
        await reader.load(lambda: names(reader, cid))
    source.blocks.update(blocks)
    assert await reader.load(lambda: names(reader, cid)) == [b"0"]


async def test_a_fetch_that_broke_off_leaves_no_failure_behind() -> None:
    """A folder that failed just when the Hub went away is read again when the Hub is back."""
    blocks, (lost, other, *_) = folders()

    class Leaving(DictSource):
        """Lacks one block, and is away when it is asked for another."""

        async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
            if other in cids and lost not in self.blocks:
                raise Unavailable("the Hub is away")
            return await super().get_many(cids)

    source = Leaving({})
    reader = TreeReader(source)
    looks: list[Callable[[], object]] = [lambda: reader.read(root_info, lost).kind, lambda: names(reader, other)]
    with pytest.raises(Unavailable):
        await reader.load(lambda: together(lambda look: look(), looks))
    source.blocks.update(blocks)
    assert await reader.load(lambda: reader.read(root_info, lost).kind) is Kind.DIRECTORY


def test_wanted_names_each_read_once() -> None:
    """The same folder is not fetched twice for two looks at it."""
    _, (cid, *_) = folders()
    reader = TreeReader(DictSource({}))
    with pytest.raises(Wanted) as wanted:
        together(lambda _: names(reader, cid), range(3))
    assert wanted.value.reads == ((list_directory, cid),)


async def test_a_result_larger_than_the_memory_is_used_all_the_same() -> None:
    """A folder of more names than the memory for decoded folders holds can be listed."""
    blocks, cids = folders()
    tree = BaseTree(DictSource(blocks), memory_bytes=1)
    for number, cid in enumerate(cids):
        entries = (await tree.load(partial(tree.directory, cid))).entries
        assert list(entries) == [b"%d" % number]
        assert tree.known_directory(cid) is not None
    assert tree.known_directory(cids[0]) is None


async def test_a_damaged_file_is_asked_for_once_a_minute() -> None:
    """`ls` in a folder with a damaged file stays quick, and the file is shown again when it is mended."""
    blocks, (cid, *_) = folders()
    source, now_s = DictSource({}), [0.0]
    tree = BaseTree(source, monotonic_s=lambda: now_s[0])
    link = Link(cid, 1)
    assert await tree.load(lambda: tree.shown(link)) is None
    source.blocks.update(blocks)
    assert await tree.load(lambda: tree.shown(link)) is None
    assert len(source.asked) == 1
    now_s[0] = DAMAGED_S
    assert await tree.load(lambda: tree.shown(link)) is not None
