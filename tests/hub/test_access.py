"""The rules of access: the tables of the buckets collection, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bucketfs.errors import Denied
from bucketfs.hub.db.models import BucketRow, PathEntry
from bucketfs.hub.trees.access import (
    check_changes,
    check_create,
    check_delete,
    check_save,
    may_read,
    nearest_entry,
    role_at,
    visible,
)
from bucketfs.roles import EVERYBODY, PathChange, Role
from bucketfs.types import BucketKey, Cid, ThreadId

OWNER, BOB, EVE = "owner-key", "bob-key", "eve-key"


def bucket(**entries: dict[str, int]) -> BucketRow:
    """A private bucket of OWNER; keyword ``docs__a`` is the path ``docs/a``, ``root`` is the root."""
    paths = {"": PathEntry(None, {OWNER: Role.ADMIN}, 1)}
    for name, roles in entries.items():
        path = "" if name == "root" else name.replace("__", "/")
        paths[path] = PathEntry(b"file key", roles, 1)
    return BucketRow(BucketKey("k"), ThreadId(b"t"), OWNER, "name", 1, b"link key", Cid(b"one"), paths, 1, 1)


def save(stored: BucketRow, writer: str | None, *, new_root: bytes = b"two", **entries: PathEntry | None) -> None:
    paths = dict(stored.entries)
    for name, entry in entries.items():
        path = "" if name == "root" else name.replace("__", "/")
        if entry is None:
            paths.pop(path)
        else:
            paths[path] = entry
    check_save(stored, replace(stored, root=Cid(new_root), entries=paths, updated_at_ns=2), writer)


def denied(stored: BucketRow, writer: str | None, *, new_root: bytes = b"two", **entries: PathEntry | None) -> None:
    with pytest.raises(Denied, match="permission denied"):
        save(stored, writer, new_root=new_root, **entries)


def test_roles_are_inherited_and_the_larger_one_wins() -> None:
    """A user who was given a folder could not reach what is in it, or could reach a folder whose name only begins alike."""
    row = bucket(docs={BOB: Role.WRITER}, docs__deep__x={BOB: Role.READER})
    assert role_at(row.entries, "docs/deep/x", BOB) == Role.WRITER
    assert role_at(row.entries, "docs", BOB) == Role.WRITER
    assert role_at(row.entries, "docsx", BOB) == 0
    assert role_at(row.entries, "", BOB) == 0
    assert role_at(row.entries, "docs/deep/x", None) == 0


def test_the_nearest_entry_is_its_own_or_an_ancestors() -> None:
    """The owner of a bucket would be shown the roles of another path."""
    row = bucket(docs={BOB: Role.WRITER})
    assert nearest_entry(row.entries, "docs/a/b") is row.entries["docs"]
    assert nearest_entry(row.entries, "other") is row.entries[""]
    assert nearest_entry({}, "other") is None


def test_a_stranger_sees_neither_entries_nor_link_key() -> None:
    """A stranger would see who has access to a private bucket, and the key that decrypts its names."""
    row = visible(bucket(docs={BOB: Role.READER}), EVE)
    assert dict(row.entries) == {}
    assert row.link_key is None
    assert (row.name, row.root, row.owner) == ("name", b"one", OWNER)
    assert dict(visible(bucket(), None).entries) == {}


def test_a_reader_of_a_part_sees_that_part_and_the_link_key() -> None:
    """A guest could not open the folder shared with them, or would see paths that are not shared."""
    row = visible(bucket(docs={BOB: Role.READER}, docs__a={}, private={}), BOB)
    assert set(row.entries) == {"docs", "docs/a"}
    assert row.link_key == b"link key"


def test_everybody_reads_a_public_bucket() -> None:
    """A visitor without an account could not read a public bucket."""
    row = bucket(root={OWNER: Role.ADMIN, EVERYBODY: Role.READER}, a={})
    assert visible(row, None) is row
    assert may_read(row, "a/b", EVE)


def test_a_bucket_without_owner_is_open() -> None:
    """Users of a bucket without an owner could not change it any more."""
    row = replace(bucket(root={}), owner="")
    assert visible(row, None) is row
    save(row, EVE, a=PathEntry())
    check_changes(row, [("x", PathChange.ADD), ("y", PathChange.REMOVE)], None)
    check_delete(row, EVE)


def test_old_buckets_are_open() -> None:
    """Users of a bucket of the former version, which has no roles, could not change it any more."""
    row = replace(bucket(), version=0)
    save(row, EVE, a=PathEntry())
    check_delete(row, EVE)


def test_only_the_owner_creates_and_deletes() -> None:
    """Someone with the admin role could delete a whole bucket of another owner."""
    check_create(bucket(), OWNER)
    check_create(replace(bucket(), owner=""), None)
    check_delete(bucket(), OWNER)
    for act in (check_create, check_delete):
        with pytest.raises(Denied):
            act(bucket(root={BOB: Role.ADMIN}), BOB)


def test_only_the_owner_adds_paths() -> None:
    """Someone with a role on a folder could fill the owner's account with new files."""
    row = bucket(docs={BOB: Role.ADMIN})
    save(row, OWNER, docs__new=PathEntry())
    denied(row, BOB, docs__new=PathEntry())


def test_a_writer_replaces_what_has_an_entry_and_removes_nothing() -> None:
    """A writer could delete files or give roles away; or a reader could overwrite them."""
    row = bucket(docs={BOB: Role.WRITER}, docs__a={})
    save(row, BOB, docs__a=PathEntry(b"file key", {}, 2))
    denied(row, BOB, docs__a=None)
    denied(row, BOB, docs__a=PathEntry(b"file key", {BOB: Role.ADMIN}, 2))
    denied(row, EVE, docs__a=PathEntry(b"file key", {}, 2))
    denied(bucket(docs={BOB: Role.READER}, docs__a={}), BOB, docs__a=PathEntry(b"file key", {}, 2))


def test_an_admin_removes_and_shares() -> None:
    """An admin of a folder could not manage it, or could make themselves admin of the whole bucket."""
    row = bucket(docs={BOB: Role.ADMIN}, docs__a={})
    save(row, BOB, docs__a=None)
    save(row, BOB, docs__a=PathEntry(b"file key", {EVE: Role.READER}, 2))
    denied(row, BOB, root=PathEntry(None, {BOB: Role.ADMIN}, 2))


def test_everybody_as_admin_grants_writing_only() -> None:
    """Any stranger could delete files, or give themselves roles, where all may write."""
    row = bucket(docs={EVERYBODY: Role.ADMIN}, docs__a={})
    save(row, EVE, docs__a=PathEntry(b"file key", {}, 2))
    denied(row, EVE, docs__a=None)
    denied(row, EVE, docs__a=PathEntry(b"file key", {EVE: Role.ADMIN}, 2))


def test_without_touched_entries_only_the_owner_moves_the_root() -> None:
    """Someone with a role on one folder could replace the whole tree of the bucket."""
    row = bucket(docs={BOB: Role.ADMIN})
    save(row, OWNER)
    denied(row, BOB)
    save(row, EVE, new_root=b"one")  # only updated_at differs


def test_the_owner_without_the_admin_role_is_locked_out() -> None:
    """Clients of a Textile Hub would find other rules here than there for an owner without the admin role."""
    row = bucket(root={}, a={})
    denied(row, OWNER, a=PathEntry(b"file key", {}, 2))
    denied(row, OWNER, a=None)
    save(row, OWNER, b=PathEntry())


@pytest.mark.parametrize("field", ["owner", "name", "link_key", "version", "created_at_ns"])
def test_the_buckets_own_fields_are_the_owners(field: str) -> None:
    """An admin of a bucket could make it their own, rename it or change its key."""
    row = bucket(root={OWNER: Role.ADMIN, BOB: Role.ADMIN})
    changes: dict[str, Any] = {"owner": BOB, "name": "x", "link_key": b"x", "version": 2, "created_at_ns": 9}
    new = replace(row, **{field: changes[field]})
    with pytest.raises(Denied):
        check_save(row, new, BOB)
    check_save(row, new, OWNER)


@pytest.mark.parametrize(
    ("who", "path", "touch", "granted"),
    [
        (OWNER, "new", PathChange.ADD, True),
        (OWNER, "docs/a", PathChange.REPLACE, True),
        (OWNER, "docs/a", PathChange.REMOVE, True),
        (BOB, "docs/a", PathChange.REPLACE, True),
        (BOB, "docs/b/c", PathChange.REPLACE, True),
        (BOB, "docs/new", PathChange.ADD, False),
        (BOB, "docs/a", PathChange.REMOVE, False),
        (BOB, "other", PathChange.REPLACE, False),
        (BOB, "docsother", PathChange.REPLACE, False),
        (EVE, "admin/x", PathChange.REMOVE, True),
        (EVE, "open/x", PathChange.REPLACE, True),
        (EVE, "open/x", PathChange.REMOVE, False),
        (None, "open/x", PathChange.REPLACE, True),
        (None, "docs/a", PathChange.REPLACE, False),
    ],
)
def test_changes_of_a_tree(who: str | None, path: str, touch: PathChange, granted: bool) -> None:
    """A push of a tree would pass where a single write is denied, and one denied path would not stop it."""
    row = bucket(docs={BOB: Role.WRITER}, admin={EVE: Role.ADMIN}, open={EVERYBODY: Role.ADMIN})
    if granted:
        check_changes(row, [(path, touch)], who)
        return
    with pytest.raises(Denied):
        check_changes(row, [(path, touch)], who)
    with pytest.raises(Denied):
        check_changes(row, [("open/x", PathChange.REPLACE), (path, touch)], who)
