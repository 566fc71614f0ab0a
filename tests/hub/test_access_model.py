"""The rules of access against a naive model, on random trees and roles; and a swap of trees against the single calls.

The model is the rules as they are written down, word by word, without inheritance made clever: a list of entries, and a loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.keyring import sign_up

from bucketfs.dag import cid_of, drive, edit_tree
from bucketfs.errors import Denied
from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.db.models import BucketRow, PathEntry
from bucketfs.hub.trees.access import check_changes, check_save, may_read, visible
from bucketfs.keys import Identity
from bucketfs.roles import PathChange
from bucketfs.types import BucketKey, Cid, Link, ThreadId
from bucketfs.wire import hub_pb2

OWNER, BOB, EVE, EVERYBODY = "owner", "bob", "eve", "*"
PEOPLE = [OWNER, BOB, EVE, None]
names = st.sampled_from(["a", "b", "ab"])
paths = st.lists(names, max_size=3).map("/".join)
role_sets = st.dictionaries(st.sampled_from([OWNER, BOB, EVE, EVERYBODY]), st.integers(0, 3), max_size=3)
entries = st.builds(PathEntry, st.sampled_from([None, b"key"]), role_sets, st.integers(1, 3))
metadatas = st.dictionaries(paths, entries, max_size=6)


@st.composite
def rows(draw: st.DrawFn) -> BucketRow:
    owner = draw(st.sampled_from([OWNER, OWNER, OWNER, ""]))
    version = draw(st.sampled_from([1, 1, 1, 0]))
    return BucketRow(BucketKey("k"), ThreadId(b"t"), owner, "name", version, b"link key", Cid(b"one"), draw(metadatas), 1, 1)


# The model


def above(path: str, other: str) -> bool:
    """Whether ``other`` is ``path`` or an ancestor of it."""
    mine, its = path.split("/") if path else [], other.split("/") if other else []
    return mine[: len(its)] == its


def role(row: BucketRow, path: str, who: str | None) -> int:
    roles = [0]
    for other, entry in row.entries.items():
        if above(path, other):
            for grantee, number in entry.roles.items():
                if grantee == who:
                    roles.append(number)
    return max(roles)


def model_may_read(row: BucketRow, path: str, reader: str | None) -> bool:
    return row.owner == "" or role(row, path, reader) > 0 or role(row, path, EVERYBODY) > 0


def model_may_change(row: BucketRow, path: str, writer: str | None, *, needs_admin: bool) -> bool:
    own, everybody = role(row, path, writer), role(row, path, EVERYBODY)
    if needs_admin and not own >= 3:
        return False
    return own >= 2 or everybody >= 2


def model_may_save(stored: BucketRow, new: BucketRow, writer: str | None) -> bool:
    """The write validator, on the difference of two instances."""
    if stored.version == 0 or stored.owner == "":
        return True
    if writer != stored.owner and (new.owner, new.name, new.version, new.link_key, new.created_at_ns) != (
        stored.owner,
        stored.name,
        stored.version,
        stored.link_key,
        stored.created_at_ns,
    ):
        return False
    patch: dict[str, PathEntry | None] = {}
    for path in stored.entries:
        if path not in new.entries:
            patch[path] = None
    patch |= {path: entry for path, entry in new.entries.items() if stored.entries.get(path) != entry}
    if not patch:
        return stored.root == new.root or writer == stored.owner
    for path, entry in patch.items():
        if path not in stored.entries:
            if writer != stored.owner:
                return False
        else:
            roles_too = entry is not None and dict(entry.roles) != dict(stored.entries[path].roles)
            if not model_may_change(stored, path, writer, needs_admin=entry is None or roles_too):
                return False
    return True


def granted(check: Callable[[], None]) -> bool:
    try:
        check()
    except Denied:
        return False
    return True


@given(rows(), paths, st.sampled_from(PEOPLE))
def test_reading(row: BucketRow, path: str, reader: str | None) -> None:
    """For some rare mix of roles a stranger could read a path, or a reader could not."""
    assert may_read(row, path, reader) is model_may_read(row, path, reader)
    seen = visible(row, reader)
    assert dict(seen.entries) == {at: entry for at, entry in row.entries.items() if model_may_read(row, at, reader)}
    # A reader of everything sees the row as it is, also one without any entries.
    assert (seen.link_key is not None) is (bool(seen.entries) or model_may_read(row, "", reader))
    assert replace(seen, entries=row.entries, link_key=row.link_key) == row


@given(rows(), st.data(), st.sampled_from(PEOPLE))
def test_saving(row: BucketRow, data: st.DataObject, writer: str | None) -> None:
    """For some rare mix of roles a stranger could change a path, or a writer could not."""
    after = dict(row.entries)
    for path, entry in data.draw(st.dictionaries(paths, st.none() | entries, max_size=3)).items():
        if entry is None:
            after.pop(path, None)
        elif data.draw(st.booleans()) and path in after:
            after[path] = replace(after[path], updated_at_ns=entry.updated_at_ns)
        else:
            after[path] = entry
    root, name = data.draw(st.sampled_from([row.root, Cid(b"two")])), data.draw(st.sampled_from([row.name] * 4 + ["new"]))
    new = replace(row, entries=after, root=root, name=name, updated_at_ns=2)
    assert granted(lambda: check_save(row, new, writer)) is model_may_save(row, new, writer)


@given(rows(), st.lists(st.tuples(paths, st.sampled_from(PathChange)), max_size=4), st.sampled_from(PEOPLE))
def test_changing_trees(row: BucketRow, changes: list[tuple[str, PathChange]], writer: str | None) -> None:
    """Many changes are allowed when each of them is; and each as if the path had an entry, or had none yet."""
    together = granted(lambda: check_changes(row, changes, writer))
    assert together is all(granted(partial(check_changes, row, [one], writer)) for one in changes)
    for path, touch in changes:
        entry = row.entries.get(path, PathEntry())
        with_entry = replace(row, entries={**row.entries, path: entry})
        without = {at: entry for at, entry in row.entries.items() if at != path}
        if touch is PathChange.ADD:
            stored = replace(row, entries=without)
            after = {**without, path: PathEntry()}
        elif touch is PathChange.REPLACE:
            stored, after = with_entry, {**with_entry.entries, path: replace(entry, updated_at_ns=99)}
        else:
            stored, after = with_entry, without
        expected = model_may_save(stored, replace(stored, entries=after, root=Cid(b"two")), writer)
        assert granted(partial(check_changes, row, [(path, touch)], writer)) is expected


# A swap is judged as the single calls are


class Two:
    """A public bucket of alice, and bob who wants to change it."""

    def __init__(self, bare: Caller) -> None:
        self.alice = BucketUser.with_new_thread(sign_up(bare, "alice"))
        bob = sign_up(bare, "bob")
        self.bob = self.alice.beside(bob)
        raw = bob.call("api.hubd.pb.APIService", "GetIdentity", hub_pb2.GetIdentityRequest()).identity
        self.name = Identity.from_bytes(raw).public_key

    def bucket(self, roles: dict[str, int]) -> str:
        key: str = self.alice.create().root.key
        self.alice.push_paths(key, {"f": b"1", "d/g": b"2", "d/e/h": b"3"})
        for path, number in roles.items():
            self.alice.ask("PushPathAccessRoles", key=key, path=path, roles={self.name: number})
        return key

    def by_call(self, key: str, path: str, data: bytes | None) -> str:
        try:
            if data is None:
                self.bob.ask("RemovePath", key=key, path=path)
            else:
                self.bob.push(key, path, data)
        except grpc.RpcError as error:
            return "denied" if "permission denied" in raised(error)[1] else str(raised(error))
        return "granted"

    def by_swap(self, key: str, changes: dict[str, bytes | None]) -> str:
        root = Cid(self.alice.root_cid(key))
        links = {
            tuple(path.encode().split(b"/")): None if data is None else Link(cid_of(data), len(data))
            for path, data in changes.items()
        }

        def fetch(cids: Any) -> dict[Cid, bytes]:
            return {Cid(block.cid): block.data for block in self.alice.get_blocks(cids)}

        made = drive(edit_tree(root, links), fetch)
        leaves = {cid_of(data): data for data in changes.values() if data is not None}
        upload = secrets.token_bytes(8)
        self.alice.put_blocks({**leaves, **made.blocks}, upload)
        try:
            self.bob.swap(key, root, made.link.cid, upload)
        except grpc.RpcError as error:
            return "denied" if "permission denied" in raised(error)[1] else str(raised(error))
        return "granted"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    data: Path = tmp_path_factory.mktemp("hub")
    config = HubConfig(data=data, listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config) as server, grpc.insecure_channel(server.address) as channel:
        yield Two(Caller(channel))


CHANGES = [
    *(("f", b"new"), ("f", None), ("d/g", b"new"), ("d/g", None), ("d/e/h", b"new"), ("d/e", None), ("d", None)),
    *(("x", b"new"), ("d/x", b"new"), ("d/e/x", b"new"), ("f", b"1"), ("d", b"a file")),
]
single_changes = st.sampled_from(CHANGES)


@given(
    roles=st.dictionaries(st.sampled_from(["", "f", "d", "d/g", "d/e"]), st.integers(1, 3), max_size=3),
    changes=st.lists(single_changes, min_size=1, max_size=3, unique_by=lambda change: change[0]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_swap_is_judged_as_single_calls(two: Two, roles: dict[str, int], changes: list[tuple[str, bytes | None]]) -> None:
    """A guest could do by a push of a tree what the single calls deny."""
    tops = [path for path, _ in changes]
    changes = [(path, data) for path, data in changes if not any(path != top and above(path, top) for top in tops)]
    # Each call on a bucket of its own: what one removes another could not change.
    answers = [two.by_call(two.bucket(roles), path, data) for path, data in changes]
    assert set(answers) <= {"granted", "denied"}
    together = two.by_swap(two.bucket(roles), dict(changes))
    real = [answer for answer, (path, data) in zip(answers, changes, strict=True) if (path, data) != ("f", b"1")]
    # A push of the same bytes asks for the right to write; a tree in which nothing changed asks for nothing.
    assert together == ("granted" if all(answer == "granted" for answer in real) else "denied"), (roles, changes, answers)
