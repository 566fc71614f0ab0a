"""Buckets by path: the client of ``api.bucketsd.pb.APIService`` (textileio/textile ``api/bucketsd``).

Paths are relative to the bucket's root, components joined by ``/``, without a leading slash; ``""`` is the root. A method that
takes ``root`` does its work only if that is still the bucket's root (else RootMoved); with None, whatever the root is.
``move_path`` and the roles have no such check at any Hub.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import cast

from bucketfs.client.bucket_info import BucketDetails, BucketInfo, Links, PathItem, PathRights
from bucketfs.client.channel import Channel
from bucketfs.dag import cid_from_text
from bucketfs.errors import BucketfsError, Corrupt, InvalidArgument, NotFound
from bucketfs.keys import cid_of_root_path, root_path, thread_from_text
from bucketfs.roles import Role
from bucketfs.types import BucketKey, Cid, ThreadId
from bucketfs.wire import buckets_pb2 as pb

PULL_BUNDLE = 32
"""A Hub sends file content in messages of at most 32 KiB; this many are taken together."""

_SERVICE = pb.DESCRIPTOR.services_by_name["APIService"]


class BucketsClient:
    """The buckets of one thread. Each call raises what the channel raises."""

    def __init__(self, channel: Channel, thread: ThreadId) -> None:
        self.thread = thread
        self._channel = channel

    async def list(self) -> Sequence[BucketInfo]:
        """The buckets of the thread."""
        reply: pb.ListResponse = await self._channel.unary(_SERVICE, "List", pb.ListRequest(), thread=self.thread)
        return [_info(root) for root in reply.roots]

    async def create(self, name: str, *, private: bool = False) -> BucketInfo:
        """A new bucket; names need not be unique."""
        request = pb.CreateRequest(name=name, private=private)
        reply: pb.CreateResponse = await self._channel.unary(_SERVICE, "Create", request, thread=self.thread)
        return _info(reply.root)

    async def root(self, key: BucketKey) -> BucketInfo:
        """The bucket as it is now. Raises NotFound."""
        return (await self.details(key)).info

    async def details(self, key: BucketKey) -> BucketDetails:
        """The bucket as it is now, with what it records for its paths. Raises NotFound."""
        reply: pb.RootResponse = await self._channel.unary(_SERVICE, "Root", pb.RootRequest(key=key), thread=self.thread)
        paths = {path: _rights(entry) for path, entry in reply.root.path_metadata.items()}
        return BucketDetails(_info(reply.root), paths)

    async def links(self, key: BucketKey, path: str = "") -> Links:
        """Where browsers find ``path``. Raises NotFound."""
        request = pb.LinksRequest(key=key, path=path)
        reply: pb.LinksResponse = await self._channel.unary(_SERVICE, "Links", request, thread=self.thread)
        return Links(reply.url, reply.www, reply.ipns)

    async def list_path(self, key: BucketKey, path: str = "") -> tuple[PathItem, BucketInfo]:
        """The item at ``path``, with its direct children when it is a folder, and the bucket it was read from."""
        request = pb.ListPathRequest(key=key, path=path)
        reply: pb.ListPathResponse = await self._channel.unary(_SERVICE, "ListPath", request, thread=self.thread)
        return _item(reply.item), _info(reply.root)

    async def pull_path(self, key: BucketKey, path: str) -> AsyncGenerator[bytes, None]:
        """The content of a file from its start; leave the iteration (``aclosing``) to stop. *Not* checked against a CID: for that
        the caller rebuilds the file's DAG. Raises NotFound, IsADirectory, Corrupt."""
        request = pb.PullPathRequest(key=key, path=path)
        async with self._channel.stream_out(
            _SERVICE, "PullPath", request, _chunk, thread=self.thread, bundle=PULL_BUNDLE
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    async def move_path(self, key: BucketKey, old: str, new: str, *, by_names: bool = False) -> None:
        """Renames ``old`` to ``new``, or puts it into ``new`` when that is a folder. An existing file is replaced.

        A Textile Hub compares the two as strings, and loses or keeps what it should not when one is a prefix of the other. Then the
        content goes by way of a third name, where a failure may leave it (the error says where). A Hub with the block extension
        compares them ``by_names``.
        """
        if not by_names and new and old != new and (new.startswith(old) or old.startswith(new)):
            await self._move_apart(key, old, new)
        else:
            await self._move(key, old, new)

    async def _move(self, key: BucketKey, old: str, new: str) -> None:
        request = pb.MovePathRequest(key=key, from_path=old, to_path=new)
        await self._channel.unary(_SERVICE, "MovePath", request, thread=self.thread)

    async def _move_apart(self, key: BucketKey, old: str, new: str) -> None:
        if old and new.startswith(old + "/"):
            raise InvalidArgument(f"cannot move {old!r} into itself")
        try:
            into, _ = await self.list_path(key, new)
        except NotFound:
            target = new
        else:
            target = f"{new}/{old.rpartition('/')[2]}" if into.is_directory else new
        if target == old:
            return
        between = f".bucketfs-move-{secrets.token_hex(8)}"
        await self._move(key, old, between)
        try:
            await self._move(key, between, target)
        except BucketfsError as error:
            raise type(error)(f"{error}; the content of {old!r} is at {between!r}", hint=error.hint) from error

    async def remove(self, key: BucketKey) -> None:
        """Destroys the bucket. Raises NotFound, Denied."""
        await self._channel.unary(_SERVICE, "Remove", pb.RemoveRequest(key=key), thread=self.thread)

    async def remove_path(self, key: BucketKey, path: str, *, root: Cid | None = None) -> Cid:
        """Removes a file, or a folder with all below it; returns the new root. Raises NotFound, RootMoved, Denied."""
        request = pb.RemovePathRequest(key=key, path=path, root=root_path(root) if root else "")
        reply: pb.RemovePathResponse = await self._channel.unary(_SERVICE, "RemovePath", request, thread=self.thread)
        return _info(reply.root).root

    async def set_roles(self, key: BucketKey, path: str, roles: Mapping[str, Role]) -> None:
        """Merges ``roles`` (by public-key text, or ``*``) into those of ``path``; Role.NONE takes one away."""
        numbers = cast(Mapping[str, pb.PathAccessRole], roles)
        request = pb.PushPathAccessRolesRequest(key=key, path=path, roles=numbers)
        await self._channel.unary(_SERVICE, "PushPathAccessRoles", request, thread=self.thread)


def _chunk(reply: pb.PullPathResponse) -> bytes:
    return reply.chunk


def _info(root: pb.Root) -> BucketInfo:
    try:
        thread = thread_from_text(root.thread)
    except InvalidArgument as error:
        raise Corrupt(f"the Hub names a thread that is none: {root.thread!r}") from error
    return BucketInfo(
        BucketKey(root.key),
        root.name,
        thread,
        _root_cid(root.path),
        root.created_at,
        root.updated_at,
        bool(root.link_key),
        root.owner,
    )


def _rights(entry: pb.Metadata) -> PathRights:
    return PathRights({user: Role(role) for user, role in entry.roles.items()}, entry.updated_at)


def _item(item: pb.PathItem) -> PathItem:
    children = tuple(_item(child) for child in item.items)
    return PathItem(item.name, _cid(item.cid), item.size, item.is_dir, item.items_count, item.metadata.updated_at, children)


def _cid(text: str) -> Cid:
    try:
        return cid_from_text(text)
    except InvalidArgument as error:
        raise Corrupt(f"the Hub answered with a CID that is none: {text!r}") from error


def _root_cid(path: str) -> Cid:
    try:
        return cid_of_root_path(path)
    except InvalidArgument as error:
        raise Corrupt(f"the Hub answered with a root that is none: {path!r}") from error
