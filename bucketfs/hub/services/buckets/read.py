"""Looking into buckets and ``/ipfs`` paths: listings, contents, links, roles (api.bucketsd.pb, the methods that change nothing)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bucketfs.dag import cid_from_text
from bucketfs.errors import Corrupt, InvalidArgument, IsADirectory, NotFound
from bucketfs.hub.db import BucketRow
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.services.buckets.messages import link_token, links_message, listing_message, role_numbers, root_message
from bucketfs.hub.services.buckets.paths import SEED_REFUSED, file_key, path_text, read_path
from bucketfs.hub.services.buckets.writer import BucketWriter
from bucketfs.hub.trees import DAMAGED, BucketTree, Path, PathNotFound, PublicTree, WorkingSet, access
from bucketfs.keys import root_path
from bucketfs.names import SEED_NAME
from bucketfs.types import Cid, Link
from bucketfs.wire import buckets_pb2 as pb

CHUNK_MAX = 32768
"""Bytes in one message of a pull, as in every Hub of this protocol."""


class BucketReads:
    """The methods."""

    def __init__(self, writer: BucketWriter) -> None:
        self._hub = writer.hub
        self._buckets = writer

    def list_buckets(self, request: Any, context: Context) -> Any:
        """``List``: the buckets of the thread, as the caller may see them."""
        thread = self._buckets.thread(context.call)
        self._hub.database.thread(thread)
        rows = self._hub.database.buckets(thread)
        return pb.ListResponse(roots=[root_message(access.visible(row, context.call.writer)) for row in rows])

    def root(self, request: Any, context: Context) -> Any:
        """``Root``."""
        row = self._buckets.row(context.call, request.key)
        return pb.RootResponse(root=root_message(access.visible(row, context.call.writer)))

    def links(self, request: Any, context: Context) -> Any:
        """``Links``: where a path is to be seen over HTTP."""
        row, path, _, _ = self._found(request, context)
        token = link_token(self._hub.host_key, row, path, context.call.writer, time.time_ns())
        return links_message(self._hub.config, row, path, token)

    def list_path(self, request: Any, context: Context) -> Any:
        """``ListPath``: a node and its children, one level."""
        row, path, tree, link = self._found(request, context)
        name = path[-1] if path else row.name.encode()
        seen = access.visible(row, context.call.writer)
        item = listing_message(tree.listing(link, name), root_path(row.root), path, seen.entries)
        return pb.ListPathResponse(item=item, root=root_message(seen))

    def list_ipfs_path(self, request: Any, context: Context) -> Any:
        """``ListIpfsPath``: the same for a CID, no bucket, nothing decrypted."""
        tree, root, path, link = self._found_ipfs(request.path, context)
        listing = tree.listing(link, path[-1] if path else b"")
        return pb.ListIpfsPathResponse(item=listing_message(listing, root_path(root), path, None))

    def pull_path(self, request: Any, context: Context) -> Iterator[Any]:
        """``PullPath``: the content of a file."""
        row, path, tree, link = self._found(request, context)
        for chunk in _content(tree, link, file_key(row, row.entries, path)):
            yield pb.PullPathResponse(chunk=chunk)

    def pull_ipfs_path(self, request: Any, context: Context) -> Iterator[Any]:
        """``PullIpfsPath``: the content of a file below a CID."""
        tree, _, _, link = self._found_ipfs(request.path, context)
        for chunk in _content(tree, link, None):
            yield pb.PullIpfsPathResponse(chunk=chunk)

    def pull_roles(self, request: Any, context: Context) -> Any:
        """``PullPathAccessRoles``: the roles of the nearest entry, own or inherited."""
        row = self._buckets.row(context.call, request.key)
        path = read_path(request.path)
        if SEED_NAME in path_text(path):
            raise Status(Code.UNKNOWN, SEED_REFUSED)
        self._buckets.find_readable(context.call, row, self._buckets.tree(row, check=context.check_active), path)
        entry = access.nearest_entry(access.visible(row, context.call.writer).entries, path_text(path))
        return pb.PullPathAccessRolesResponse(roles=role_numbers(entry) if entry is not None else {})

    def archives(self, request: Any, context: Context) -> Any:
        """``Archives``: there are none."""
        return pb.ArchivesResponse(current=pb.Archive())

    def _found(self, request: Any, context: Context) -> tuple[BucketRow, Path, BucketTree, Link]:
        """The bucket and path that a request names, and what is there, if the caller may see it. Raises Status."""
        row = self._buckets.row(context.call, request.key)
        path = read_path(request.path)
        tree = self._buckets.tree(row, check=context.check_active)
        return row, path, tree, self._buckets.find_readable(context.call, row, tree, path)

    def _found_ipfs(self, text: str, context: Context) -> tuple[PublicTree, Cid, Path, Link]:
        """The CID and path of an ``/ipfs`` path, and what is there. Raises InvalidArgument, NotFound, Status."""
        names = read_path(text)
        if names[:1] == (b"ipfs",):
            names = names[1:]
        if not names:
            raise InvalidArgument(f"not an /ipfs path: {text}")
        tree = PublicTree(WorkingSet(self._hub.blockstore, absent=NotFound, check=context.check_active))
        root, path = cid_from_text(names[0].decode()), names[1:]
        with answered(PathNotFound, Code.UNKNOWN):
            return tree, root, path, tree.find(root, path)


def _content(tree: BucketTree, link: Link, key: bytes | None) -> Iterator[bytes]:
    """The content of a file in chunks, with the errors of a read in the words of the protocol."""
    try:
        with answered(IsADirectory, Code.UNKNOWN, "node is a directory"):
            for piece in tree.read(link.cid, key):
                for start in range(0, len(piece), CHUNK_MAX):
                    yield piece[start : start + CHUNK_MAX]
    except Corrupt as error:
        if str(error) == DAMAGED:
            raise Status(Code.UNKNOWN, DAMAGED) from error
        raise
