"""Files, nodes and identifiers against what other implementations made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.store import Store
from support.unixfs import build_file, file_root

from bucketfs.dag import (
    DAG_PB,
    RAW,
    FileTree,
    UnixFsType,
    check_block,
    cid_from_text,
    cid_of,
    cid_text,
    codec_of,
    decode_pb,
    decode_unixfs,
    encode_pb,
    encode_unixfs,
    identity_block,
    leaves,
    multibase_decode,
    multibase_encode,
    multihash_of,
    node_info,
    parse_cid,
    verify,
)
from bucketfs.errors import Corrupt
from bucketfs.types import Cid, Kind

Content = Callable[[str, int], Iterator[bytes]]


def test_files(files_case: dict[str, Any], content: Content, store: Store) -> None:
    """Root, cumulative size, counts and the root block of every file; leaves are found again with their places."""
    case = files_case
    sizes: dict[Cid, int] = {}
    built = build_file(
        content(case["gen"], case["size"]),
        chunk=case["chunk"],
        width=case["width"],
        raw_leaves=case["raw_leaves"],
        cid_version=case["cid_version"],
        sink=lambda cid, block: sizes.__setitem__(cid, len(block)),
    )
    assert cid_text(built.link.cid) == case["root"]
    assert built.link.tsize == case["cumulative_size"]
    assert codec_of(built.link.cid) == (RAW if case["root_codec"] == "raw" else DAG_PB)
    sizes |= {cid: len(block) for cid, block in built.blocks.items()}
    assert (len(sizes), sum(sizes.values())) == (case["unique_blocks"], case["unique_bytes"])
    assert sizes[built.link.cid] == case["root_block_size"]
    if "root_block_hex" in case and built.link.cid in built.blocks:
        assert built.blocks[built.link.cid].hex() == case["root_block_hex"]
    if not case["raw_leaves"]:
        return
    store.keep(built)
    found = store.run(leaves(built.link.cid, size_bytes=case["size"]))
    assert sum(leaf.size for leaf in found) == case["size"]
    assert [leaf.offset for leaf in found] == list(range(0, case["size"], case["chunk"]))
    if case["size"]:
        tree = FileTree(width=case["width"])
        for leaf in found:
            tree.add(leaf.cid, leaf.size)
        streamed = tree.finish()
        assert streamed.link == built.link
        assert streamed.blocks == file_root([(leaf.cid, leaf.size) for leaf in found], width=case["width"]).blocks


def test_content(content: Content, vectors: dict[str, Any]) -> None:
    """The generators make the bytes that the vectors were made of."""
    samples = vectors["generators"]["samples"]
    assert b"".join(content("pattern", 16)).hex() == samples["pattern_first_16"]
    assert b"".join(content("sha256ctr", 64))[32:].hex() == samples["sha256ctr_bytes_32_to_64"]


def test_small_nodes(small_nodes_case: dict[str, Any]) -> None:
    """Small files, links and folders have the CIDs of other writers."""
    case = small_nodes_case
    data, block = bytes.fromhex(case["unixfs_hex"]), bytes.fromhex(case["block_hex"])
    assert encode_unixfs(decode_unixfs(data)) == data
    assert decode_pb(block).data == data
    assert encode_pb(decode_pb(block)) == block
    cid = cid_of(block, DAG_PB)
    assert cid_text(cid) == case["cid"]
    assert cid_text(cid_of(block, DAG_PB, version=0)) == case["cid_v0"]
    assert check_block(cid, block) == []


def test_explicit_defaults_are_read(explicit_default_mode_case: dict[str, Any]) -> None:
    """Both spellings of a default are read alike; ours leaves it out, and keeps the bits above the mode."""
    case = explicit_default_mode_case
    block = bytes.fromhex(case["block_hex"])
    cid = cid_from_text(case["cid"])
    verify(cid, block)
    info = node_info(cid, block)
    assert info.attributes.mode == (0o755 if info.kind is Kind.DIRECTORY else 0o644)
    message = decode_unixfs(bytes.fromhex(case["unixfs_hex"]))
    if "0100644" in case["name"]:
        assert message.mode_extra == 0o100000 >> 12
        assert encode_unixfs(message).hex() == case["unixfs_hex"]
    elif message.type is UnixFsType.FILE:
        assert encode_unixfs(message).hex() == case["unixfs_hex"].removesuffix("38a403")


def test_dag_pb(dag_pb_case: dict[str, Any]) -> None:
    """Blocks are encoded byte for byte as the specification says."""
    block = bytes.fromhex(dag_pb_case["block_hex"])
    assert cid_text(cid_of(block, DAG_PB)) == dag_pb_case["cid"]
    node = decode_pb(block)
    if dag_pb_case["name"] != "one link, hash only":  # A form that is read; name and size are always written.
        assert encode_pb(node) == block


def test_dag_pb_decode(dag_pb_decode_case: dict[str, Any]) -> None:
    """Blocks that the specification forbids are refused."""
    block = bytes.fromhex(dag_pb_decode_case["block_hex"])
    if dag_pb_decode_case["js_result"] == "accepted":
        node = decode_pb(block)
        assert node.links or node.data
    else:
        with pytest.raises(Corrupt):
            decode_pb(block)


def test_cids(cids_case: dict[str, Any]) -> None:
    """CIDs in every base and version are read as by other programs."""
    data = bytes.fromhex(cids_case["bytes_hex"])
    cid = parse_cid(data)
    assert cid_text(cid) == cids_case["base32"]
    assert multihash_of(cid).hex() == cids_case["multihash_hex"]
    for base in ("base32", "base36", "base58btc", "base16", "base64url"):
        text = cids_case[base]
        assert multibase_encode(data, text[0]) == text
        assert multibase_decode(text) == data
        assert cid_from_text(text) == cid
        if base in ("base32", "base36", "base16"):
            assert cid_from_text(text.upper()) == cid
    if "v0" in cids_case:
        v0 = cid_from_text(cids_case["v0"])
        assert multihash_of(v0) == multihash_of(cid)
        assert cid_text(v0) == cids_case["v0"]
        assert codec_of(v0) == DAG_PB
    assert (identity_block(cid) is not None) == cids_case["name"].startswith("identity")


def test_well_known(well_known_case: dict[str, Any]) -> None:
    """CIDs that everyone knows are computed as everyone does."""
    blocks = {
        "empty directory": (b"\x0a\x02\x08\x01", DAG_PB),
        "empty file as dag-pb": (b"\x0a\x04\x08\x02\x18\x00", DAG_PB),
        "empty file as raw block": (b"", RAW),
        'file "hello world" (11 bytes, no line end) as raw block': (b"hello world", RAW),
    }
    block, codec = blocks[well_known_case["what"]]
    assert cid_text(cid_of(block, codec)) == well_known_case["v1"]
    if "v0" in well_known_case:
        assert cid_text(cid_of(block, codec, version=0)) == well_known_case["v0"]
    if "inlined" in well_known_case:
        inlined = cid_from_text(well_known_case["inlined"])
        assert identity_block(inlined) == block
        verify(inlined, block)
        with pytest.raises(Corrupt):
            verify(inlined, block + b"x")
