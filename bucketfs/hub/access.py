"""Who may do what to which path of a bucket. Pure: rows and public key texts in, verdicts out.

Roles are numbers (0 none, 1 reader, 2 writer, 3 admin) granted on a path to a public key, or to ``*`` for everybody. A role
on a path counts for everything below it and the larger of two wins. The owner has no built-in power over existing entries
but the admin role on ``""`` that creation put there; what only the owner may do is add paths and change the bucket's own
fields.

The rules are those of the ``buckets`` collection (write validator and read filter) of a Textile Hub. There they look at path
entries; every pushed file has one. A change that comes as a tree (``check_changes``) is judged as if that were so here:
a path that exists counts as an entry, with empty roles of its own when it has none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from bucketfs.errors import Denied
from bucketfs.hub.db.models import BucketRow, PathEntry

NONE = 0
READER = 1
WRITER = 2
ADMIN = 3
EVERYBODY = "*"

DENIED = "app denied net record body: permission denied"
"""What clients are told; they look for its end."""


class Touch(enum.Enum):
    """What a change does to one path."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


def lineage(path: str) -> Iterator[str]:
    """The path, then each of its ancestors up to ``""``."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def role_at(metadata: Mapping[str, PathEntry], path: str, who: str | None) -> int:
    """The largest role that ``who`` itself (``*`` apart) has at ``path``, own or inherited."""
    if who is None:
        return NONE
    best = NONE
    for place in lineage(path):
        entry = metadata.get(place)
        if entry is not None:
            best = max(best, entry.roles.get(who, NONE))
    return best


def nearest_entry(metadata: Mapping[str, PathEntry], path: str) -> PathEntry | None:
    """The entry of ``path``, or else of its closest ancestor that has one."""
    return next((metadata[place] for place in lineage(path) if place in metadata), None)


def may_read(row: BucketRow, path: str, reader: str | None) -> bool:
    """Whether ``reader`` sees ``path``: a role there or above, its own or everybody's. A bucket without owner is open."""
    if not row.owner:
        return True
    return max(role_at(row.metadata, path, reader), role_at(row.metadata, path, EVERYBODY)) > NONE


def visible(row: BucketRow, reader: str | None) -> BucketRow:
    """The bucket as ``reader`` may see it: hidden entries left out, and the link key too when no entry is left.

    Everything else stays visible to everybody, as the protocol has it. A filtered row is for showing: saving it would delete
    what it hides.
    """
    if may_read(row, "", reader):
        return row
    seen = {path: entry for path, entry in row.metadata.items() if may_read(row, path, reader)}
    return replace(row, metadata=MappingProxyType(seen), link_key=row.link_key if seen else None)


def check_create(row: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may make this new bucket: as its owner, or as nobody's."""
    if row.owner and row.owner != writer:
        raise Denied(DENIED)


def check_delete(row: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may delete the whole bucket: its owner, or anyone when it has none."""
    if row.version and row.owner and row.owner != writer:
        raise Denied(DENIED)


def check_save(stored: BucketRow, new: BucketRow, writer: str | None) -> None:
    """Raises Denied unless ``writer`` may turn the stored row into the new one.

    Both rows are whole ones, not filtered ones: what the writer cannot see it has no role on, so touching it is denied here
    too.
    """
    if not stored.version or not stored.owner:
        return
    owner = writer == stored.owner
    if not owner and _fields(stored) != _fields(new):
        raise Denied(DENIED)
    touched = [
        path for path in stored.metadata.keys() | new.metadata.keys() if stored.metadata.get(path) != new.metadata.get(path)
    ]
    if not touched and new.root != stored.root and not owner:
        raise Denied(DENIED)
    for path in touched:
        before, after = stored.metadata.get(path), new.metadata.get(path)
        if before is None:
            _require(owner)
        else:
            full = after is None or dict(after.roles) != dict(before.roles)
            _require(_may_change(stored, path, writer, ADMIN if full else WRITER))


def check_changes(row: BucketRow, changes: Iterable[tuple[str, Touch]], writer: str | None) -> None:
    """Raises Denied unless ``writer`` may make each of these changes to the tree of the bucket.

    A path that is replaced by something of another kind, or that loses what was below it, is a REPLACE of that path and a
    REMOVE of what was below. Adding is for the owner, replacing for writers, removing for admins.
    """
    if not row.version or not row.owner:
        return
    for path, touch in changes:
        if touch is Touch.ADD:
            _require(writer == row.owner)
        else:
            _require(_may_change(row, path, writer, ADMIN if touch is Touch.REMOVE else WRITER))


def _may_change(row: BucketRow, path: str, writer: str | None, needed: int) -> bool:
    own = role_at(row.metadata, path, writer)
    # Everybody's role makes a writer of anyone, never an admin: deleting and sharing look at the caller's own role only.
    if needed >= ADMIN and own < ADMIN:
        return False
    return own >= WRITER or role_at(row.metadata, path, EVERYBODY) >= WRITER


def _fields(row: BucketRow) -> tuple[object, ...]:
    return (row.owner, row.name, row.version, row.link_key, row.created_at_ns, row.thread, row.key)


def _require(granted: bool) -> None:
    if not granted:
        raise Denied(DENIED)
