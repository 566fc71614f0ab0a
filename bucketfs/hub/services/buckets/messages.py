"""Buckets as the protocol shows them: rows as ``Root`` messages, listings as ``PathItem``, links as URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import quote, urlsplit

from bucketfs.dag import cid_text
from bucketfs.hub.config import HubConfig
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.hub.services.buckets.paths import path_text
from bucketfs.hub.trees import Listing, ListingItem, Path, key_text, nearest_entry
from bucketfs.keys import Identity, make_link_token, root_path, thread_text
from bucketfs.wire import buckets_pb2 as pb


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
        fill_entry(message.metadata, row.entries[""])
    if with_paths:
        for path, entry in row.entries.items():
            fill_entry(message.path_metadata[path], entry)
    return message


def listing_message(listing: Listing, where: str, path: Path, entries: Mapping[str, PathEntry] | None) -> pb.PathItem:
    """A node and its children. ``where`` is the spelling of the tree's root, ``entries`` those of a bucket."""
    message = _item(listing.item, where, path, entries)
    message.items.extend(_item(child, where, (*path, child.name), entries) for child in listing.children)
    return message


def _item(item: ListingItem, where: str, path: Path, entries: Mapping[str, PathEntry] | None) -> pb.PathItem:
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
        fill_entry(message.metadata, entry)
    return message


def fill_entry(message: pb.Metadata, entry: PathEntry) -> None:
    """A path's entry."""
    # Field by field, because a bucket may have very many entries, nearly all of them with a time and nothing else.
    message.updated_at = entry.updated_at_ns
    if entry.key:
        message.key = key_text(entry.key)
    if entry.roles:
        message.roles.update(role_numbers(entry))


def role_numbers(entry: PathEntry) -> Mapping[str, pb.PathAccessRole]:
    """The roles of an entry. An enum is an int on the wire; the stubs want its own type."""
    return cast("Mapping[str, pb.PathAccessRole]", entry.roles)


def link_token(host: Identity, row: BucketRow, path: Path, reader: str | None, now_ns: int) -> str | None:
    """Opens a path of a private bucket to anyone who follows a link: that path only, and for a day. ``None`` when no token is
    needed, and for a caller without a key."""
    if not row.private or reader is None:
        return None
    return make_link_token(host, reader, row.key, path_text(path), now_ns)


def links_message(config: HubConfig, row: BucketRow, path: Path, token: str | None) -> pb.LinksResponse:
    """Where a path is to be seen over HTTP; ``token`` opens it there (``link_token``). Empty when no gateway would answer: a link
    that leads nowhere is worse than none."""
    gateway = config.links_base.rstrip("/")
    if not gateway:
        return pb.LinksResponse()
    below = "".join("/" + quote(name) for name in path)
    tail = below + (f"?token={quote(token)}" if token else "")
    website = f"{urlsplit(gateway).scheme}://{row.key}.{config.bucket_domain}{tail}" if config.bucket_domain else ""
    return pb.LinksResponse(
        url=f"{gateway}/thread/{thread_text(row.thread)}/buckets/{row.key}{tail}",
        www=website,
        ipns=f"{gateway}/ipns/{row.key}{tail}",
    )
