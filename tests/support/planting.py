"""Trees put into a Hub's stores past its door: what a Hub of before, or another one, may hold, and this one takes in no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bucketfs.dag import DAG_PB, PbLink, PbNode, cid_of, decode_pb, drive, edit_directory, encode_pb
from bucketfs.errors import NotFound
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.models import BucketRow
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.hub.store.disk_store import DiskBlockStore
from bucketfs.types import Cid, Link


def bucket_named(database: HubDatabase, name: str) -> BucketRow:
    """The one bucket of a name, of whatever thread."""
    return _one(database, "name", name)


def bucket_by_key(database: HubDatabase, key: str) -> BucketRow:
    """The bucket of a key, of whatever thread. Raises NotFound."""
    return _one(database, "key", key)


def _one(database: HubDatabase, column: str, value: str) -> BucketRow:
    with database._db.read() as connection:
        rows = connection.exec_driver_sql(f"SELECT thread, key FROM buckets WHERE {column} = ?", (value,)).all()
    if not rows:
        raise NotFound(f"no bucket with {column} {value!r}")
    assert len(rows) == 1, rows
    return database.bucket(rows[0].thread, rows[0].key)


def plant(data: Path, bucket: str, folder: bytes, names: Mapping[bytes, bytes]) -> None:
    """Adds files, by name and content, to a folder at the top of a bucket whose Hub (which may run) has its stores in ``data``."""
    store, database = DiskBlockStore(data / "blocks"), HubDatabase(sqlite_url(data))
    try:
        row = bucket_named(database, bucket)
        top = decode_pb(store.get(row.root))
        at = next(link for link in top.links if link.name == folder)
        node = decode_pb(store.get(at.cid))
        added = [PbLink(cid_of(content), name, len(content)) for name, content in names.items()]
        block = encode_pb(PbNode(tuple(sorted([*node.links, *added], key=lambda link: link.name)), node.data))
        made = {cid_of(block, DAG_PB): block, **{cid_of(content): content for content in names.values()}}
        new = Link(cid_of(block, DAG_PB), at.tsize + 1)
        tree = drive(edit_directory(row.root, {folder: new}), lambda cids: {cid: store.get(cid) for cid in cids})
        _save(store, database, row, tree.link.cid, {**made, **tree.blocks})
    finally:
        database.close()
        store.close()


def _save(store: DiskBlockStore, database: HubDatabase, row: BucketRow, root: Cid, blocks: Mapping[Cid, bytes]) -> None:
    store.put_many(blocks)
    database.save_bucket(replace(row, root=root, updated_at_ns=row.updated_at_ns + 1), row.root)


def plant_tree(data: Path, bucket: str, name: bytes, link: Link, blocks: Mapping[Cid, bytes]) -> None:
    """Puts a tree at a name at the top of a bucket."""
    store, database = DiskBlockStore(data / "blocks"), HubDatabase(sqlite_url(data))
    try:
        row = bucket_named(database, bucket)
        tree = drive(edit_directory(row.root, {name: link}), lambda cids: {cid: store.get(cid) for cid in cids})
        _save(store, database, row, tree.link.cid, {**blocks, **tree.blocks})
    finally:
        database.close()
        store.close()


def lattice(content: bytes, levels: int, cid_version: int = 1) -> tuple[Link, dict[Cid, bytes]]:
    """Directories, each of which has the one below twice, over one file: ``2 ** levels`` paths."""
    leaf = cid_of(content)
    link, blocks = Link(leaf, len(content)), {leaf: content}
    for _ in range(levels):
        built = drive(edit_directory(None, {b"a": link, b"b": link}, cid_version=cid_version), lambda cids: {})
        link = built.link
        blocks |= built.blocks
    return link, blocks


def names_in(data: Path, bucket: str, folder: bytes) -> list[bytes]:
    """The names of a folder at the top of a bucket, whatever they are."""
    store, database = DiskBlockStore(data / "blocks"), HubDatabase(sqlite_url(data))
    try:
        top = decode_pb(store.get(bucket_named(database, bucket).root))
        at = next(link for link in top.links if link.name == folder)
        return [link.name for link in decode_pb(store.get(at.cid)).links]
    finally:
        database.close()
        store.close()
