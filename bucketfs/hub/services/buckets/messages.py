"""Buckets in the words of the wire: rows as ``Root`` messages, listings as ``PathItem``, links as URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import quote, urlsplit

from bucketfs.dag import cid_text
from bucketfs.hub.config import HubConfig
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.hub.services.buckets.paths import Path, path_text
from bucketfs.hub.trees import Item, Listing, key_text, nearest_entry
from bucketfs.keys import Identity, make_link_token, thread_text
from bucketfs.types import Cid
from bucketfs.wire import buckets_pb2 as pb


def root_path(root: Cid) -> str:
    """``/ipfs/<cid>``."""
    return f"/ipfs/{cid_text(root)}"


def entry_message(entry: PathEntry) -> pb.Metadata:
    """A path's entry."""
    message = pb.Metadata()
    _fill(message, entry)
    return message


def _fill(message: pb.Metadata, entry: PathEntry) -> None:
    # Field by field, because a bucket may have very many entries, nearly all of them with a time and nothing else.
    message.updated_at = entry.updated_at_ns
    if entry.key:
        message.key = key_text(entry.key)
    if entry.roles:
        # An enum is an int on the wire; the stubs want its own type.
        message.roles.update(cast("Mapping[str, pb.PathAccessRole]", entry.roles))


def root_message(row: BucketRow, *, with_paths: bool = True) -> pb.Root:
    """A bucket, as far as ``row`` shows it: filter it through access.visible first."""
    message = pb.Root(
        key=row.key,
        name=row.name,
        path=root_path(row.root),
        created_at=row.created_at_ns,
        updated_at=row.updated_at_ns,
        thread=thread_text(row.thread),
        owner=row.owner,
        version=row.version,
        link_key=key_text(row.link_key),
        archives=pb.Archives(current=pb.Archive()),
    )
    if "" in row.entries:
        _fill(message.metadata, row.entries[""])
    if with_paths:
        for path, entry in row.entries.items():
            _fill(message.path_metadata[path], entry)
    return message


def listing_message(listing: Listing, where: str, path: Path, entries: Mapping[str, PathEntry] | None) -> pb.PathItem:
    """A node and its children. ``where`` is the spelling of the tree's root, ``metadata`` that of a bucket."""
    message = _item(listing.item, where, path, entries)
    message.items.extend(_item(child, where, (*path, child.name), entries) for child in listing.children)
    return message


def _item(item: Item, where: str, path: Path, entries: Mapping[str, PathEntry] | None) -> pb.PathItem:
    message = pb.PathItem(
        cid=cid_text(item.cid),
        name=item.name.decode(errors="replace"),
        path="/".join((where, *(name.decode(errors="replace") for name in path))),
        size=item.size,
        is_dir=item.is_directory,
        items_count=item.count,
    )
    entry = nearest_entry(entries, path_text(path)) if entries is not None else None
    if entry is not None:
        _fill(message.metadata, entry)
    return message


def link_token(host: Identity, row: BucketRow, path: Path, reader: str | None, now_ns: int) -> str | None:
    """The token that opens one path of a private bucket to the holder of a link, for a day. ``None`` for a public bucket and for an
    anonymous reader.
    """
    if not row.private or reader is None:
        return None
    return make_link_token(host, reader, row.key, path_text(path), now_ns)


def links_message(config: HubConfig, row: BucketRow, path: Path, token: str | None) -> pb.LinksResponse:
    """Where a path is to be seen over HTTP; ``token`` lets one in there (``link_token``)."""
    below = "".join("/" + quote(name) for name in path)
    tail = below + (f"?token={quote(token)}" if token else "")
    gateway = config.gateway_url.rstrip("/")
    website = f"{urlsplit(gateway).scheme}://{row.key}.{config.bucket_domain}{tail}" if config.bucket_domain else ""
    return pb.LinksResponse(
        url=f"{gateway}/thread/{thread_text(row.thread)}/buckets/{row.key}{tail}",
        www=website,
        ipns=f"{gateway}/ipns/{row.key}{tail}",
    )
