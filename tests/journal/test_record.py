"""The frames of a segment: what goes in comes out, and nothing else does."""

from __future__ import annotations

import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs.errors import Corrupt, InvalidArgument, Unsupported
from bucketfs.journal import record
from bucketfs.journal.ops import (
    NO_OWNER,
    Arrived,
    Conflict,
    Create,
    Left,
    Lost,
    MakeDirectory,
    MakeSymlink,
    Op,
    Place,
    Proposed,
    Quarantined,
    Record,
    Remove,
    Rename,
    Resolved,
    Seal,
    SetAttributes,
    SetContent,
)
from bucketfs.journal.record import Header, cid_from_text, cid_to_text, decode_header, encode_header, encode_op, frame_at
from bucketfs.journal.state import _NEXT, SegmentEvent, SegmentState, next_state, scan, split_by_backing
from bucketfs.types import Cid, DraftId, Inode

numbers = st.integers(0, 2**63)
times = st.integers(-(2**62), 2**62)
owners = st.none() | st.integers(NO_OWNER, 2**32)
maybe = st.none() | st.integers(0, 2**32)
paths = st.text(st.characters(codec="utf-8"), max_size=20)
cids = st.binary(min_size=1, max_size=80).map(Cid)
made = {"path": paths, "uid": maybe, "gid": maybe, "mtime_ns": times, "time_ns": times, "inode": numbers.map(Inode)}
extents = st.lists(st.tuples(numbers, numbers), max_size=4).map(tuple)
ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(Create, **made, mode=st.integers(0, 0o7777)),
    st.builds(MakeDirectory, **made, mode=st.integers(0, 0o7777)),
    st.builds(MakeSymlink, **made, target=paths),
    st.builds(Place, path=paths, inode=numbers.map(Inode), cid=cids, tsize=numbers, time_ns=times),
    st.builds(SetAttributes, path=paths, mode=maybe, uid=owners, gid=owners, mtime_ns=st.none() | times, time_ns=times),
    st.builds(
        SetContent,
        path=paths,
        draft=numbers.map(DraftId),
        extents=extents,
        lower_limit_bytes=numbers,
        size_bytes=numbers,
        mtime_ns=times,
        time_ns=times,
    ),
    st.builds(Rename, old=paths, new=paths, exchange=st.booleans(), time_ns=times),
    st.builds(Proposed, root=cids, time_ns=times),
    st.builds(Arrived, root=cids, time_ns=times),
    st.builds(Left, root=cids, time_ns=times),
    st.builds(Remove, path=paths, time_ns=times),
    st.builds(Conflict, copy=paths, original=paths, ours=st.booleans(), root=cids, time_ns=times),
    st.builds(Resolved, copy=paths, time_ns=times),
    st.builds(Lost, path=paths, was=paths, time_ns=times),
    st.builds(Quarantined, root=cids, count=numbers, time_ns=times),
)
seals = st.builds(
    Seal,
    draft=numbers.map(DraftId),
    start=numbers,
    stop=numbers,
    sums=st.binary(max_size=12),
)
HEADER = encode_header(Header(3, None, DraftId(1)))
END = record.encode_frame(0, record.HEAD_END, b"")
REMOVE = Remove("a", 1)


def segment(*written: Record) -> bytes:
    return HEADER + END + b"".join(encode_op(index, op) for index, op in enumerate(written, 1))


@given(st.lists(ops, max_size=5))
def test_what_is_written_is_read(written: list[Op]) -> None:
    """Every kind of change comes back from the disk as it was made."""
    found = scan(segment(*written))
    assert found.ops == written
    assert found.head_complete
    assert found.records == len(written) + 1
    assert found.good_size == len(segment(*written))
    assert found.named == {op.draft for op in written if isinstance(op, SetContent)}


@given(st.lists(ops, min_size=1, max_size=3), st.data())
def test_one_changed_byte_never_gives_another_op(written: list[Op], data: st.DataObject) -> None:
    """A flipped bit in a journal must not become another change."""
    good = segment(*written)
    at = data.draw(st.integers(len(HEADER), len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    found = scan(bytes(bad))
    assert found.ops == written[: len(found.ops)]
    assert found.good_size <= at, "the frame that was hit is not read"


@given(st.lists(ops, max_size=3), st.integers(0, 10_000))
def test_a_cut_gives_a_prefix(written: list[Op], cut: int) -> None:
    """A torn tail costs the records that it tore, and none before."""
    good = segment(*written)
    found = scan(good[:cut])
    assert found.ops == written[: len(found.ops)]
    assert found.head_complete == (cut >= len(HEADER + END))


@given(seals)
def test_seals(seal: Seal) -> None:
    """The checksums of a draft outlive a restart."""
    kind, version, payload = frame_at(encode_op(4, seal), 0, 4) or (0, 0, b"")
    assert (kind, version) == (ord("E"), 1)
    assert record.decode_op(kind, version, payload) == seal


def test_a_segment_tells_its_seals_apart() -> None:
    """Each draft is checked against its own sums."""
    seal = Seal(DraftId(1), 0, 8, b"abcd")
    found = scan(segment(content(1, 4), seal, content(1, 8)))
    assert found.ops == [content(1, 4), content(1, 8)]
    assert list(found.seals[DraftId(1)].seals(DraftId(1))) == [seal]
    # A power loss takes no sealed bytes: a draft that lacks some is damaged, and stays what its records say.
    assert split_by_backing(found.ops, {}, found.seals) == (found.ops, [])
    assert split_by_backing([*found.ops, content(1, 9)], {}, found.seals) == (found.ops, [content(1, 9)])


def test_a_frame_at_the_wrong_place_is_not_read() -> None:
    """A block of an old file that the disk shows in a new one is not replayed."""
    first, second = encode_op(1, REMOVE), encode_op(2, REMOVE)
    assert len(scan(HEADER + END + first + second).ops) == 2
    assert len(scan(HEADER + END + first + first).ops) == 1
    assert len(scan(HEADER + END + second).ops) == 0
    assert frame_at(first, 0, 1) is not None
    assert frame_at(b"", 0, 0) is None


@given(numbers, st.none() | cids, numbers)
def test_headers(number: int, base: Cid | None, next_draft: int) -> None:
    """A segment says which root its changes stand on; a damaged header is noticed."""
    header = Header(number, base, DraftId(next_draft))
    line = encode_header(header)
    assert line.count(b"\n") == 1
    assert decode_header(line + b"more") == (header, len(line))
    with pytest.raises(Corrupt):
        decode_header(line[:-1])
    with pytest.raises(Corrupt):
        decode_header(line.replace(b"segment=", b"segment=1"))


@given(cids)
def test_cid_text(cid: Cid) -> None:
    """A CID of any version comes back as it was."""
    text = cid_to_text(cid)
    assert text.isalnum() and text == text.lower()
    assert cid_from_text(text) == cid


def test_a_newer_version_is_refused() -> None:
    """Records that this bucketfs does not know are left to the one that wrote them."""
    with pytest.raises(Unsupported, match="kind 'Z'"):
        scan(HEADER + END + record.encode_frame(1, ord("Z"), b"{}"))
    newer = bytearray(encode_op(1, REMOVE))
    newer[13] = record.RECORD_VERSION + 1
    newer[4:8] = zlib.crc32(bytes(newer[8:])).to_bytes(4, "big")
    with pytest.raises(Unsupported, match="version 3"):
        scan(HEADER + END + bytes(newer))
    line = HEADER.decode().rpartition(" crc=")[0].replace("bucketfs-journal 1", "bucketfs-journal 2").encode()
    with pytest.raises(Unsupported, match="format 2"):
        scan(line + f" crc={zlib.crc32(line):08x}\n".encode())


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"path":"a"}', b'{"path":"a","time_ns":1,"more":2}', b"\xff"])
def test_a_payload_that_makes_no_sense_ends_the_good_prefix(payload: bytes) -> None:
    """Nonsense is not guessed at; what stands before it counts."""
    bad = HEADER + END + encode_op(1, REMOVE) + record.encode_frame(2, ord("X"), payload) + encode_op(3, REMOVE)
    found = scan(bad)
    assert found.ops == [REMOVE]
    assert bad[found.good_size :].startswith(record.encode_frame(2, ord("X"), payload))


def test_a_place_without_a_cid_makes_no_sense() -> None:
    """A moved file without its CID would be a file without its bytes."""
    frame = record.encode_frame(1, ord("P"), b'{"path":"a","inode":1,"cid":"b!","tsize":1,"time_ns":1}')
    assert scan(HEADER + END + frame).records == 1


def test_text_that_is_not_utf8_is_refused() -> None:
    """A name that no journal can hold is refused before it is recorded."""
    with pytest.raises(InvalidArgument):
        encode_op(0, Remove("\udcff", 1))


def test_the_whole_table_of_states() -> None:
    """A segment never goes on after its disk failed it."""
    for state in SegmentState:
        for event in SegmentEvent:
            if (state, event) in _NEXT:
                assert next_state(state, event) is _NEXT[state, event]
            else:
                with pytest.raises(RuntimeError, match=state.name):
                    next_state(state, event)
    assert next_state(SegmentState.FAILED, SegmentEvent.SUPERSEDED) is SegmentState.OLD
    with pytest.raises(RuntimeError):
        next_state(SegmentState.FAILED, SegmentEvent.APPENDED)


def test_only_what_an_older_bucketfs_would_misread_has_a_newer_version() -> None:
    """A user who goes back a version loses no more than what that version cannot read."""
    assert encode_op(1, SetAttributes("a", 0o600, None, 1000, None, 1))[13] == 1
    assert encode_op(1, SetAttributes("a", None, NO_OWNER, None, None, 1))[13] == 2
    assert encode_op(1, SetAttributes("a", None, None, NO_OWNER, None, 1))[13] == 2


def content(draft: int, stop: int) -> SetContent:
    return SetContent("f", DraftId(draft), ((0, stop),) if stop else (), 0, stop, 1, 1)


def test_records_without_their_bytes_are_left_out_with_all_that_follow_in_the_draft() -> None:
    """After a power loss no file is shown with bytes that were never in it."""
    written: list[Op] = [content(1, 4), content(1, 8), REMOVE, content(2, 4), content(1, 2), content(3, 0)]
    backed, unbacked = split_by_backing(written, {DraftId(1): 6, DraftId(2): 4}, {})
    assert backed == [content(1, 4), REMOVE, content(2, 4), content(3, 0)]
    assert unbacked == [content(1, 8), content(1, 2)]


def test_a_hundred_thousand_records_are_read_in_two_seconds() -> None:
    """A mount with a large backlog starts soon."""
    written: list[Op] = [
        Create(f"folder/of/some/depth/file-{n}", Inode(n), 0o644, None, 1000, 10**18 + n, 10**18 + n) for n in range(50_000)
    ]
    written += [content(n, 4096) for n in range(30_000)]
    written += [Place(f"placed-{n}", Inode(n), Cid(b"\x01\x70\x12\x20" + bytes(32)), 1, 1) for n in range(20_000)]
    data = segment(*written)
    before = time.thread_time()
    assert len(scan(data).ops) == 100_000
    assert time.thread_time() - before < 2.0 * 3, "three times the target, for slower processors"
