"""One UnixFS node at a time: what it is, what it links to, and the same node with other attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from bucketfs.dag.codec.cid import BLOCK_MAX, DAG_PB, RAW, cid_of, cid_text, codec_of, verify
from bucketfs.dag.codec.dag_pb import PbLink, decode_pb, encode_pb, skip_links
from bucketfs.dag.codec.unixfs import UnixFs, UnixFsType, canonical_attributes, decode_unixfs, encode_unixfs
from bucketfs.errors import Corrupt
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

LEAF_SIZE = 262_144
"""The bytes of a file that one leaf holds, in the layout we write."""

FILE_WIDTH = 174
"""The links of a node of a file, in that layout."""

HOLE_MAX = 1 << 50

INLINE_MAX = 4096
"""A file with attributes of at most so many bytes is one node that holds them; a larger one of one leaf is a node that links to
its leaf. Other writers (the JavaScript importer) go inline up to a whole leaf. But a root block is what listing a folder reads,
for each file in it: with inline leaves `ls -l` of a thousand files of 200 KB would move 200 MB, and a changed mode or mtime would
send a file's bytes again. And as a link, the leaf is the same block as without attributes. Readers take both forms."""

FANOUT_MAX = 1024
MURMUR3_X64_64 = 0x22
SYMLINK_TARGET_MAX = 4095


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a root block says by itself. ``size_bytes`` is the length of a file or of a symlink's target, else 0; ``hole_bytes`` how
    much of it is holes, as far as one block shows that: links below which all is zeros."""

    kind: Kind
    attributes: NodeAttributes
    size_bytes: int
    target: bytes | None = None
    sharded: bool = False
    hole_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Built:
    """A DAG that was made: its link and those of its blocks that are new (blocks of the original are not repeated)."""

    link: Link
    blocks: Mapping[Cid, bytes] = field(default_factory=dict)


def node_info(cid: Cid, block: bytes) -> NodeInfo:
    """What the root block of a file, directory or symlink says. Raises Corrupt when it is no such node."""
    codec = codec_of(cid)
    if codec == RAW:
        return NodeInfo(Kind.FILE, NO_ATTRIBUTES, len(block))
    links_count, message = _look(cid, block)
    kind = message.type.kind
    if kind is Kind.FILE:
        holes = _hole_bytes(block, message) if links_count else 0
        return NodeInfo(kind, message.attributes, file_size(message, links_count), hole_bytes=holes)
    if kind is Kind.SYMLINK:
        return NodeInfo(kind, message.attributes, len(message.data), target=message.data)
    return NodeInfo(kind, message.attributes, 0, sharded=message.type is UnixFsType.SHARD)


@cache
def _holes() -> frozenset[Cid]:
    """The CIDs of zeros in our layout: a leaf, and a full node of each level."""
    found = []
    size = tsize = LEAF_SIZE
    cid = cid_of(bytes(LEAF_SIZE))
    while size < HOLE_MAX:
        found.append(cid)
        size *= FILE_WIDTH
        sizes = (size // FILE_WIDTH,) * FILE_WIDTH
        link, _ = build_node(UnixFs(UnixFsType.FILE, blocksizes=sizes, filesize=size), [(cid, b"", tsize)] * FILE_WIDTH, 1)
        cid, tsize = link.cid, link.tsize
    return frozenset(found)


def _hole_bytes(block: bytes, message: UnixFs) -> int:
    holes = [cid for cid in _holes() if block.find(cid) >= 0]
    if not holes:
        return 0
    links, _ = decode_pb(block)
    return sum(size for link, size in zip(links, message.blocksizes, strict=True) if link.cid in holes)


def _look(cid: Cid, block: bytes) -> tuple[int, UnixFs]:
    """The number of links and the message of a dag-pb node that stands for a name, checked."""
    if codec_of(cid) != DAG_PB:
        raise Corrupt(f"block {cid_text(cid)}: no UnixFS node, its codec is {codec_of(cid):#x}")
    links_count, data = skip_links(block)
    message = _message(data)
    check_message(message, links_count)
    return links_count, message


def _message(data: bytes | None) -> UnixFs:
    if data is None:
        raise Corrupt("dag-pb block without data: no UnixFS node")
    return decode_unixfs(data)


def decode_node(block: bytes) -> tuple[Sequence[PbLink], UnixFs]:
    """The links and the message of a dag-pb UnixFS node, checked. Raises Corrupt."""
    links, data = decode_pb(block)
    message = _message(data)
    check_message(message, len(links))
    return links, message


def check_message(message: UnixFs, links_count: int) -> None:
    """Refuse a message that contradicts itself or its node, or goes beyond our limits. Raises Corrupt."""
    match message.type:
        case UnixFsType.METADATA:
            raise Corrupt("UnixFS node of type metadata: it stands for no file")
        case UnixFsType.SYMLINK:
            if links_count or not 0 < len(message.data) <= SYMLINK_TARGET_MAX or b"\0" in message.data:
                raise Corrupt(f"symlink with {links_count} links and a target of {len(message.data)} bytes")
        case UnixFsType.SHARD:
            fanout = message.fanout or 0
            if message.hash_type != MURMUR3_X64_64 or not 8 <= fanout <= FANOUT_MAX or fanout & (fanout - 1):
                raise Corrupt(f"directory shard with hash function {message.hash_type} and fan-out {message.fanout}")
        case UnixFsType.FILE | UnixFsType.RAW:
            file_size(message, links_count)


def file_size(message: UnixFs, links_count: int) -> int:
    """The length of the file below a node. Raises Corrupt when its sizes contradict each other."""
    if links_count != len(message.blocksizes):
        raise Corrupt(f"file node with {links_count} links and {len(message.blocksizes)} sizes")
    size_bytes = len(message.data) + sum(message.blocksizes)
    if size_bytes != (message.filesize or 0):
        raise Corrupt(f"file node of {message.filesize} bytes whose parts have {size_bytes}")
    return size_bytes


def block_links(cid: Cid, block: bytes) -> list[Cid]:
    """The CIDs that a block links to, in order and with repetitions. Raises Corrupt for a codec other than raw and
    dag-pb.
    """
    codec = codec_of(cid)
    if codec == RAW:
        return []
    if codec != DAG_PB:
        raise Corrupt(f"block {cid_text(cid)}: codec {codec:#x} has no place in a bucket")
    return [link.cid for link in decode_pb(block).links]


def check_block(cid: Cid, block: bytes) -> list[Cid]:
    """Everything that can be checked when a block comes from outside; returns its links.

    Raises Corrupt: hash, size over 2 MiB, codec, dag-pb structure, UnixFS sense. Directories that a plain Hub keeps in one
    larger block do not come this way.
    """
    if len(block) > BLOCK_MAX:
        raise Corrupt(f"block {cid_text(cid)}: {len(block)} bytes, over the limit of {BLOCK_MAX}")
    verify(cid, block)
    if codec_of(cid) == DAG_PB:
        links, _ = decode_node(block)
        return [link.cid for link in links]
    return block_links(cid, block)


def build_node(message: UnixFs, links: list[tuple[Cid, bytes, int]], cid_version: int = 1) -> tuple[Link, bytes]:
    """Encode a node; its link (with the cumulative size) and block."""
    block = encode_pb((links, encode_unixfs(message)))
    return Link(cid_of(block, DAG_PB, cid_version), len(block) + sum(link[2] for link in links)), block


def built_node(message: UnixFs, links: list[tuple[Cid, bytes, int]], cid_version: int = 1) -> Built:
    """Encode a node that stands alone."""
    link, block = build_node(message, links, cid_version)
    return Built(link, {link.cid: block})


def with_attributes(cid: Cid, block: bytes, attributes: NodeAttributes, tsize: int) -> Built:
    """The same file, directory or symlink with other attributes; what is below the root stays untouched.

    All four attributes are replaced (None removes one). ``tsize`` is the cumulative size of the original. A raw file gets
    a dag-pb node that holds its bytes (up to INLINE_MAX) or links to it; losing the last attribute turns that back. Raises
    Corrupt.
    """
    codec = codec_of(cid)
    if codec == RAW:
        return _attach(cid, block, attributes)
    if codec != DAG_PB:
        raise Corrupt(f"block {cid_text(cid)}: no UnixFS node, its codec is {codec:#x}")
    links, message = decode_node(block)
    wanted = canonical_attributes(message.type, attributes)
    if wanted == canonical_attributes(message.type, message.attributes):
        return Built(Link(cid, tsize))
    message = message.with_attributes(wanted)
    if message.type is UnixFsType.FILE and not links and message.is_plain:
        return Built(Link(raw := cid_of(message.data), len(message.data)), {raw: message.data})
    is_one_leaf = len(links) == 1 and not message.data and codec_of(links[0].cid) == RAW
    if message.type is UnixFsType.FILE and is_one_leaf and message.is_plain:
        return Built(Link(links[0].cid, message.filesize or 0))
    link, encoded = build_node(message, list(links))
    return Built(Link(link.cid, tsize - len(block) + len(encoded)), {link.cid: encoded})


def _attach(cid: Cid, block: bytes, attributes: NodeAttributes) -> Built:
    """A raw file of one block with attributes."""
    wanted = canonical_attributes(UnixFsType.FILE, attributes)
    if wanted == NO_ATTRIBUTES:
        return Built(Link(cid, len(block)))
    if len(block) <= INLINE_MAX:
        return built_node(UnixFs(UnixFsType.FILE, data=block, filesize=len(block)).with_attributes(wanted), [])
    message = UnixFs(UnixFsType.FILE, filesize=len(block), blocksizes=(len(block),)).with_attributes(wanted)
    return built_node(message, [(cid, b"", len(block))])
