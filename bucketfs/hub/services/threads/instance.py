"""A bucket as an instance of the ``buckets`` collection: the JSON that ThreadDB clients read. Pure."""

from __future__ import annotations

import base64
from typing import Any

from bucketfs.dag import cid_text
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.hub.threaddb import instance_text


def instance_of(row: BucketRow) -> dict[str, Any]:
    """The instance of a bucket as the row shows it; filter the row first (``access.visible``)."""
    instance: dict[str, Any] = {"_id": row.key, "owner": row.owner, "name": row.name, "version": row.version}
    if row.link_key is not None:
        instance["key"] = base64.b64encode(row.link_key).decode()
    instance["path"] = f"/ipfs/{cid_text(row.root)}"
    instance["metadata"] = {path: _entry(entry) for path, entry in sorted(row.entries.items())}
    instance["archives"] = {"current": {"cid": "", "deals": []}, "history": []}
    instance["created_at"] = row.created_at_ns
    instance["updated_at"] = row.updated_at_ns
    instance["_mod"] = row.updated_at_ns
    return instance


def instance_json(instance: dict[str, Any]) -> bytes:
    """Compact UTF-8."""
    return instance_text(instance).encode()


def _entry(entry: PathEntry) -> dict[str, Any]:
    found: dict[str, Any] = {} if entry.key is None else {"key": base64.b64encode(entry.key).decode()}
    found["roles"] = dict(entry.roles)
    found["updated_at"] = entry.updated_at_ns
    return found
