"""That messages put together by hand are what protobuf would have made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bucketfs.wire import blocks_pb2
from bucketfs.wire.blockmessage import BlockMessage

BLOCKS = st.lists(st.tuples(st.binary(max_size=40), st.none() | st.binary(max_size=300)), max_size=5)


@given(BLOCKS)
def test_a_reply_is_what_protobuf_makes(blocks: list[tuple[bytes, bytes | None]]) -> None:
    """Replies put together without protobuf are read by every client."""
    ours, theirs = BlockMessage(), blocks_pb2.GetReply()
    for cid, data in blocks:
        ours.add(cid, data)
        theirs.blocks.add(cid=cid, data=data or b"", missing=data is None)
    assert blocks_pb2.GetReply.FromString(ours.SerializeToString()) == theirs
    assert ours.blocks == len(blocks)
    assert ours.size_bytes == sum(len(cid) + len(data or b"") for cid, data in blocks)


@given(st.binary(max_size=64), BLOCKS)
def test_a_put_is_what_protobuf_makes(upload: bytes, blocks: list[tuple[bytes, bytes | None]]) -> None:
    """Uploads put together without protobuf are read by every Hub."""
    ours, theirs = BlockMessage(upload), blocks_pb2.PutRequest(upload=upload)
    for cid, data in blocks:
        ours.add(cid, data or b"")
        theirs.blocks.add(cid=cid, data=data or b"")
    assert blocks_pb2.PutRequest.FromString(ours.SerializeToString()) == theirs


def test_large_blocks_have_long_lengths() -> None:
    """Blocks of every size are framed right."""
    message = BlockMessage()
    for size in (127, 128, 16_383, 16_384, 1 << 21):
        message.add(b"cid", bytes(size))
    reply = blocks_pb2.GetReply.FromString(message.SerializeToString())
    assert [len(block.data) for block in reply.blocks] == [127, 128, 16_383, 16_384, 1 << 21]
