"""Who may do what to which path of a bucket: rows and public keys in, verdicts out. Pure.

The roles and their rule are those of ``bucketfs.roles``. The owner has no built-in power over existing entries but the admin
role on ``""`` that creation put there; what only the owner may do is add paths and change the bucket's own fields.

A Textile Hub checks path entries, and there every pushed file has one. A change that comes as a tree (``check_changes``) is
judged as if that were so here: a path that exists counts as an entry, with empty roles when it has none of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bucketfs.errors import Denied
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.roles import EVERYBODY, PathChange, Role, lineage, may_change

DENIED = "app denied net record body: permission denied"
"""Clients match on the end of this text."""


def role_at(entries: Mapping[str, PathEntry], path: str, who: str | None) -> int:
    """The largest role granted to exactly ``who`` at ``path``, own or inherited."""
    if who is None:
        return Role.NONE
    return max((entries[place].roles.get(who, 0) for place in lineage(path) if place in entries), default=Role.NONE)


def nearest_entry(entries: Mapping[str, PathEntry], path: str) -> PathEntry | None:
    """The entry of ``path``, or else of its closest ancestor that has one."""
    return next((entries[place] for place in lineage(path) if place in entries), None)


def may_read(row: BucketRow, path: str, reader: str | None) -> bool:
    """Whether ``reader`` sees ``path``: a role there or above, its own or everybody's. A bucket without owner is open."""
    if not row.owner:
        return True
    return max(role_at(row.entries, path, reader), role_at(row.entries, path, EVERYBODY)) > Role.NONE


def may_all(row: BucketRow, writer: str | None) -> bool:
    """Whether every change is allowed, so that no path needs to be checked: that takes time in large buckets."""
    return not row.owner or (writer == row.owner and role_at(row.entries, "", writer) >= Role.ADMIN)


def visible(row: BucketRow, reader: str | None) -> BucketRow:
    """The bucket as ``reader`` may see it: hidden entries left out, and the link key too when no entry is left.

    Everything else stays visible to everybody, as the protocol has it. Never save a filtered row: that would delete what it hides.
    """
    if may_read(row, "", reader):
        return row
    seen = {path: entry for path, entry in row.entries.items() if may_read(row, path, reader)}
    return replace(row, entries=MappingProxyType(seen), link_key=row.link_key if seen else None)


def check_create(row: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may make this new bucket: as its owner, or without an owner."""
    _require(not row.owner or row.owner == writer)


def check_delete(row: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may delete the whole bucket: its owner, or anyone when it has none."""
    _require(not row.version or not row.owner or row.owner == writer)


def check_save(stored: BucketRow, new: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may turn the stored row into the new one.

    Both must be whole rows, not filtered ones: on what the writer cannot see it has no role, so changing that is denied here too.
    """
    if not stored.version or not stored.owner:
        return
    owner = writer == stored.owner
    _require(owner or _fields(stored) == _fields(new))
    changed = [
        path for path in stored.entries.keys() | new.entries.keys() if stored.entries.get(path) != new.entries.get(path)
    ]
    _require(owner or bool(changed) or new.root == stored.root)
    for path in changed:
        before, after = stored.entries.get(path), new.entries.get(path)
        if before is None:
            _require(owner)
        else:
            # Granting needs the role that removing needs.
            full = after is None or dict(after.roles) != dict(before.roles)
            _require(_may(stored, path, PathChange.REMOVE if full else PathChange.REPLACE, writer))


def check_changes(row: BucketRow, changes: Iterable[tuple[str, PathChange]], writer: str | None) -> None:
    """Raises Denied unless ``writer`` may make each of these changes to the tree of the bucket.

    A path that becomes something of another kind, or that loses what was below it, is a REPLACE of that path and a REMOVE of
    what was below.
    """
    if row.version and row.owner:
        for path, change in changes:
            _require(_may(row, path, change, writer))


def _may(row: BucketRow, path: str, change: PathChange, writer: str | None) -> bool:
    own, everybody = role_at(row.entries, path, writer), role_at(row.entries, path, EVERYBODY)
    return may_change(change, is_owner=writer == row.owner, own=own, everybody=everybody)


def _fields(row: BucketRow) -> tuple[object, ...]:
    return (row.owner, row.name, row.version, row.link_key, row.created_at_ns, row.thread, row.key)


def _require(granted: bool) -> None:
    if not granted:
        raise Denied(DENIED)
