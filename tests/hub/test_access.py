"""The rules of access: the tables of the buckets collection, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bucketfs.errors import Denied
from bucketfs.hub.access import (
    ADMIN,
    EVERYBODY,
    READER,
    WRITER,
    Touch,
    check_changes,
    check_create,
    check_delete,
    check_save,
    may_read,
    nearest_entry,
    role_at,
    visible,
)
from bucketfs.hub.db.models import BucketRow, PathEntry
from bucketfs.types import BucketKey, Cid, ThreadId

OWNER, BOB, EVE = "owner-key", "bob-key", "eve-key"


def bucket(**entries: dict[str, int]) -> BucketRow:
    """A private bucket of OWNER; keyword ``docs__a`` is the path ``docs/a``, ``root`` is the root."""
    paths = {"": PathEntry(None, {OWNER: ADMIN}, 1)}
    for name, roles in entries.items():
        path = "" if name == "root" else name.replace("__", "/")
        paths[path] = PathEntry(b"file key", roles, 1)
    return BucketRow(BucketKey("k"), ThreadId(b"t"), OWNER, "name", 1, b"link key", Cid(b"one"), paths, 1, 1)


def save(stored: BucketRow, writer: str | None, *, root: bytes = b"two", **entries: PathEntry | None) -> None:
    paths = dict(stored.metadata)
    for name, entry in entries.items():
        path = "" if name == "root" else name.replace("__", "/")
        if entry is None:
            paths.pop(path)
        else:
            paths[path] = entry
    check_save(stored, replace(stored, root=Cid(root), metadata=paths, updated_at_ns=2), writer)


def denied(stored: BucketRow, writer: str | None, *, root: bytes = b"two", **entries: PathEntry | None) -> None:
    with pytest.raises(Denied, match="permission denied"):
        save(stored, writer, root=root, **entries)


def test_roles_are_inherited_and_the_larger_one_wins() -> None:
    row = bucket(docs={BOB: WRITER}, docs__deep__x={BOB: READER})
    assert role_at(row.metadata, "docs/deep/x", BOB) == WRITER
    assert role_at(row.metadata, "docs", BOB) == WRITER
    assert role_at(row.metadata, "docsx", BOB) == 0
    assert role_at(row.metadata, "", BOB) == 0
    assert role_at(row.metadata, "docs/deep/x", None) == 0


def test_the_nearest_entry_is_its_own_or_an_ancestors() -> None:
    row = bucket(docs={BOB: WRITER})
    assert nearest_entry(row.metadata, "docs/a/b") is row.metadata["docs"]
    assert nearest_entry(row.metadata, "other") is row.metadata[""]
    assert nearest_entry({}, "other") is None


def test_a_stranger_sees_neither_entries_nor_link_key() -> None:
    row = visible(bucket(docs={BOB: READER}), EVE)
    assert dict(row.metadata) == {}
    assert row.link_key is None
    assert (row.name, row.root, row.owner) == ("name", b"one", OWNER)
    assert dict(visible(bucket(), None).metadata) == {}


def test_a_reader_of_a_part_sees_that_part_and_the_link_key() -> None:
    row = visible(bucket(docs={BOB: READER}, docs__a={}, private={}), BOB)
    assert set(row.metadata) == {"docs", "docs/a"}
    assert row.link_key == b"link key"


def test_everybody_reads_a_public_bucket() -> None:
    row = bucket(root={OWNER: ADMIN, EVERYBODY: READER}, a={})
    assert visible(row, None) is row
    assert may_read(row, "a/b", EVE)


def test_a_bucket_without_owner_is_open() -> None:
    row = replace(bucket(root={}), owner="")
    assert visible(row, None) is row
    save(row, EVE, a=PathEntry())
    check_changes(row, [("x", Touch.ADD), ("y", Touch.REMOVE)], None)
    check_delete(row, EVE)


def test_old_buckets_are_open() -> None:
    row = replace(bucket(), version=0)
    save(row, EVE, a=PathEntry())
    check_delete(row, EVE)


def test_only_the_owner_creates_and_deletes() -> None:
    check_create(bucket(), OWNER)
    check_create(replace(bucket(), owner=""), None)
    check_delete(bucket(), OWNER)
    for act in (check_create, check_delete):
        with pytest.raises(Denied):
            act(bucket(root={BOB: ADMIN}), BOB)


def test_only_the_owner_adds_paths() -> None:
    row = bucket(docs={BOB: ADMIN})
    save(row, OWNER, docs__new=PathEntry())
    denied(row, BOB, docs__new=PathEntry())


def test_a_writer_replaces_what_has_an_entry_and_removes_nothing() -> None:
    row = bucket(docs={BOB: WRITER}, docs__a={})
    save(row, BOB, docs__a=PathEntry(b"file key", {}, 2))
    denied(row, BOB, docs__a=None)
    denied(row, BOB, docs__a=PathEntry(b"file key", {BOB: ADMIN}, 2))
    denied(row, EVE, docs__a=PathEntry(b"file key", {}, 2))
    denied(bucket(docs={BOB: READER}, docs__a={}), BOB, docs__a=PathEntry(b"file key", {}, 2))


def test_an_admin_removes_and_shares() -> None:
    row = bucket(docs={BOB: ADMIN}, docs__a={})
    save(row, BOB, docs__a=None)
    save(row, BOB, docs__a=PathEntry(b"file key", {EVE: READER}, 2))
    denied(row, BOB, root=PathEntry(None, {BOB: ADMIN}, 2))


def test_everybody_as_admin_grants_writing_only() -> None:
    row = bucket(docs={EVERYBODY: ADMIN}, docs__a={})
    save(row, EVE, docs__a=PathEntry(b"file key", {}, 2))
    denied(row, EVE, docs__a=None)
    denied(row, EVE, docs__a=PathEntry(b"file key", {EVE: ADMIN}, 2))


def test_without_touched_entries_only_the_owner_moves_the_root() -> None:
    row = bucket(docs={BOB: ADMIN})
    save(row, OWNER)
    denied(row, BOB)
    save(row, EVE, root=b"one")  # only updated_at differs


def test_the_owner_without_the_admin_role_is_locked_out() -> None:
    row = bucket(root={}, a={})
    denied(row, OWNER, a=PathEntry(b"file key", {}, 2))
    denied(row, OWNER, a=None)
    save(row, OWNER, b=PathEntry())


@pytest.mark.parametrize("field", ["owner", "name", "link_key", "version", "created_at_ns"])
def test_the_buckets_own_fields_are_the_owners(field: str) -> None:
    row = bucket(root={OWNER: ADMIN, BOB: ADMIN})
    value = {"owner": BOB, "name": "x", "link_key": b"x", "version": 2, "created_at_ns": 9}[field]
    new = replace(row, **{field: value})
    with pytest.raises(Denied):
        check_save(row, new, BOB)
    check_save(row, new, OWNER)


@pytest.mark.parametrize(
    ("who", "path", "touch", "granted"),
    [
        (OWNER, "new", Touch.ADD, True),
        (OWNER, "docs/a", Touch.REPLACE, True),
        (OWNER, "docs/a", Touch.REMOVE, True),
        (BOB, "docs/a", Touch.REPLACE, True),
        (BOB, "docs/b/c", Touch.REPLACE, True),
        (BOB, "docs/new", Touch.ADD, False),
        (BOB, "docs/a", Touch.REMOVE, False),
        (BOB, "other", Touch.REPLACE, False),
        (BOB, "docsother", Touch.REPLACE, False),
        (EVE, "admin/x", Touch.REMOVE, True),
        (EVE, "open/x", Touch.REPLACE, True),
        (EVE, "open/x", Touch.REMOVE, False),
        (None, "open/x", Touch.REPLACE, True),
        (None, "docs/a", Touch.REPLACE, False),
    ],
)
def test_changes_of_a_tree(who: str | None, path: str, touch: Touch, granted: bool) -> None:
    row = bucket(docs={BOB: WRITER}, admin={EVE: ADMIN}, open={EVERYBODY: ADMIN})
    if granted:
        check_changes(row, [(path, touch)], who)
        return
    with pytest.raises(Denied):
        check_changes(row, [(path, touch)], who)
    with pytest.raises(Denied):
        check_changes(row, [("open/x", Touch.REPLACE), (path, touch)], who)
