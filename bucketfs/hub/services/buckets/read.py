"""Looking into buckets and ``/ipfs`` paths: listings, contents, links, roles (api.bucketsd.pb, the methods that change nothing)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from bucketfs.dag import cid_from_text
from bucketfs.errors import Corrupt, InvalidArgument, IsADirectory, NotFound
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.hub.services.buckets.messages import (
    entry_message,
    link_token,
    links_message,
    listing_message,
    root_message,
    root_path,
)
from bucketfs.hub.services.buckets.paths import SEED_REFUSED, Path, file_key, path_text, read_path
from bucketfs.hub.services.buckets.write import BucketWriter
from bucketfs.hub.trees import DAMAGED, PathNotFound, PublicTree, WorkingSet, access
from bucketfs.names import SEED_NAME
from bucketfs.types import Cid
from bucketfs.wire import buckets_pb2 as pb

CHUNK_MAX = 32768
"""Bytes in one message of a pull: what clients of this protocol have always met."""


class Reading:
    """The methods."""

    def __init__(self, writer: BucketWriter) -> None:
        self._writer = writer

    def list_buckets(self, request: Any, context: Context) -> Any:
        """``List``: the buckets of the thread, as the caller may see them."""
        thread = self._writer.thread(context.call)
        database = self._writer.hub.database
        database.thread(thread)
        return pb.ListResponse(
            roots=[root_message(access.visible(row, context.call.writer)) for row in database.buckets(thread)]
        )

    def root(self, request: Any, context: Context) -> Any:
        """``Root``."""
        row = self._writer.row(context.call, request.key)
        return pb.RootResponse(root=root_message(access.visible(row, context.call.writer)))

    def links(self, request: Any, context: Context) -> Any:
        """``Links``: where a path is to be seen over HTTP."""
        row = self._writer.row(context.call, request.key)
        path = read_path(request.path)
        self._writer.find_readable(context.call, row, self._writer.tree(row, check=context.check_active), path)
        hub = self._writer.hub
        token = link_token(hub.host_key, row, path, context.call.writer, time.time_ns())
        return links_message(hub.config, row, path, token)

    def list_path(self, request: Any, context: Context) -> Any:
        """``ListPath``: a node and its children, one level."""
        row = self._writer.row(context.call, request.key)
        path = read_path(request.path)
        tree = self._writer.tree(row, check=context.check_active)
        link = self._writer.find_readable(context.call, row, tree, path)
        name = path[-1] if path else row.name.encode()
        seen = access.visible(row, context.call.writer)
        item = listing_message(tree.listing(link, name), root_path(row.root), path, seen.entries)
        return pb.ListPathResponse(item=item, root=root_message(seen))

    def list_ipfs_path(self, request: Any, context: Context) -> Any:
        """``ListIpfsPath``: the same for a CID, no bucket, nothing decrypted."""
        tree, root, path = self._ipfs(request.path, context)
        link = _find_ipfs(tree, root, path)
        listing = tree.listing(link, path[-1] if path else b"")
        return pb.ListIpfsPathResponse(item=listing_message(listing, root_path(root), path, None))

    def pull_path(self, request: Any, context: Context) -> Iterator[Any]:
        """``PullPath``: the content of a file."""
        row = self._writer.row(context.call, request.key)
        path = read_path(request.path)
        tree = self._writer.tree(row, check=context.check_active)
        link = self._writer.find_readable(context.call, row, tree, path)
        key = file_key(row, row.entries, path)
        for chunk in _chunks(_content(tree.read(link.cid, key) if not tree.is_directory(link.cid) else None)):
            yield pb.PullPathResponse(chunk=chunk)

    def pull_ipfs_path(self, request: Any, context: Context) -> Iterator[Any]:
        """``PullIpfsPath``: the content of a file below a CID."""
        tree, root, path = self._ipfs(request.path, context)
        link = _find_ipfs(tree, root, path)
        for chunk in _chunks(_content(tree.read(link.cid) if not tree.is_directory(link.cid) else None)):
            yield pb.PullIpfsPathResponse(chunk=chunk)

    def pull_roles(self, request: Any, context: Context) -> Any:
        """``PullPathAccessRoles``: the roles of the nearest entry, own or inherited."""
        row = self._writer.row(context.call, request.key)
        path = read_path(request.path)
        _refuse_seed(path)
        self._writer.find_readable(context.call, row, self._writer.tree(row, check=context.check_active), path)
        entry = access.nearest_entry(access.visible(row, context.call.writer).entries, path_text(path))
        return pb.PullPathAccessRolesResponse(roles=entry_message(entry).roles if entry is not None else {})

    def archives(self, request: Any, context: Context) -> Any:
        """``Archives``: there are none."""
        return pb.ArchivesResponse(current=pb.Archive())

    def _ipfs(self, text: str, context: Context) -> tuple[PublicTree, Cid, Path]:
        names = read_path(text)
        if names[:1] == (b"ipfs",):
            names = names[1:]
        if not names:
            raise InvalidArgument(f"not an /ipfs path: {text}")
        return (
            PublicTree(WorkingSet(self._writer.hub.blockstore, absent=NotFound, check=context.check_active)),
            cid_from_text(names[0].decode()),
            names[1:],
        )


def _find_ipfs(tree: PublicTree, root: Cid, path: Path) -> Any:
    try:
        return tree.find(root, path)
    except PathNotFound as error:
        raise Status(Code.UNKNOWN, str(error)) from error


def _refuse_seed(path: Path) -> None:
    if SEED_NAME in path_text(path):
        raise Status(Code.UNKNOWN, SEED_REFUSED)


def _content(pieces: Iterator[bytes] | None) -> Iterator[bytes]:
    """The pieces, with the errors of a read in the words of the protocol."""
    try:
        if pieces is None:
            raise IsADirectory("node is a directory")
        yield from pieces
    except IsADirectory as error:
        raise Status(Code.UNKNOWN, "node is a directory") from error
    except Corrupt as error:
        if str(error) == DAMAGED:
            raise Status(Code.UNKNOWN, DAMAGED) from error
        raise


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), CHUNK_MAX):
            yield piece[start : start + CHUNK_MAX]
