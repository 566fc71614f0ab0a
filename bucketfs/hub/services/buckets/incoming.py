"""What comes into a bucket without content from the client: a seed, and a DAG that the client names by its CID."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from bucketfs.dag import check_unfolding, cid_from_text, cid_of, count_entries, empty_directory, reachable
from bucketfs.errors import Corrupt, InvalidArgument, NotFound
from bucketfs.hub.db import BucketRow
from bucketfs.hub.rpc import Code, Status
from bucketfs.hub.services.buckets.writer import BucketWriter
from bucketfs.hub.trees import (
    SIZE_MAX,
    BucketTree,
    PublicTree,
    TreeSizes,
    WorkingSet,
    check_nodes,
    check_sizes,
    encrypt,
    total_size,
)
from bucketfs.names import SEED
from bucketfs.types import Cid, Link

SEED_BYTES = 32

_EMPTY = {**empty_directory().blocks, **empty_directory(cid_version=0).blocks, cid_of(b""): b""}
"""Blocks that every client knows: it names them without having sent them."""


@dataclass(frozen=True, slots=True)
class SeededRoot:
    """A root with a fresh seed in it."""

    root: Link
    seed: bytes
    seed_cid: Cid
    seed_size_bytes: int


def with_new_seed(tree: BucketTree, root: Link, key: bytes | None) -> SeededRoot:
    """The directory ``root`` with a new seed; its content is encrypted when there is a key."""
    seed = secrets.token_bytes(SEED_BYTES)
    stored = seed if key is None else encrypt(seed, key)
    cid = cid_of(stored)
    tree.blocks.add({cid: stored})
    link = tree.edit(root.cid, {(SEED,): Link(cid, len(stored))})
    return SeededRoot(link, seed, cid, len(stored))


def fetch_remote(writer: BucketWriter, tree: BucketTree, text: str, *, what: str = "invalid remote cid") -> Link:
    """The DAG that a client names by the text of its CID: all of it must be on this Hub, and where bytes are limited its links
    must claim the sizes that are there.

    Raises Status ``<what>: …`` for a text that is no CID and for nodes that make no sense, NotFound when a block is missing.
    """
    try:
        cid = cid_from_text(text.removeprefix("/ipfs/"))
    except InvalidArgument as error:
        raise Status(Code.UNKNOWN, f"{what}: {error}") from error
    store = writer.hub.blockstore
    tree.blocks.add(_EMPTY)
    visitor = WorkingSet(store, absent=NotFound, check=tree.blocks.check)
    visitor.add(_EMPTY)
    try:
        # A swap trusts that everything below a bucket's root is here, so a tree with missing blocks must not get below one.
        below = visitor.run(reachable(cid))
        check_nodes(visitor, below)
        size_bytes = total_size(cid, visitor.get(cid))
        if size_bytes > SIZE_MAX:
            raise Status(Code.UNKNOWN, f"{what}: its links claim {size_bytes} bytes")
        missing = store.missing([one for one in below if one not in _EMPTY], tree.blocks.upload)
        if missing:
            raise NotFound(f"{len(missing)} blocks of {text} are not on this hub")
        if writer.counts_bytes:
            check_sizes(visitor, below)
    except Corrupt as error:
        # Nodes that make no sense are the fault of the client, which named them, and no loss of ours.
        raise Status(Code.UNKNOWN, f"{what}: {error}") from error
    return Link(cid, size_bytes)


def check_sealable(writer: BucketWriter, row: BucketRow, tree: BucketTree, link: Link, *, new: bool = False) -> None:
    """Refuse what a private bucket cannot take in, before any of it is encrypted: every path of it gets blocks of its own there,
    however many paths lead to one block in the clear.

    Raises OverQuota, NoSpace, and TooLarge for a tree that unfolds too far. A public tree takes in anything as it is.
    """
    if not row.private:
        return
    if PublicTree(tree.blocks).is_directory(link.cid):
        check_unfolding(*tree.blocks.run(count_entries(link.cid)))
    size_bytes = TreeSizes(tree.blocks).measure(link.cid)
    writer.check_quota(row, size_bytes, new=new)
    writer.hub.blockstore.check_room(size_bytes)
