"""Who reaches what: every kind of credential against the threads and buckets of a developer, an organization and a user.

The table below is the specification, taken from the protocol's rules (order of checks, ownership of threads, roles of
paths, with the codes and texts of the original), not from what this hub happens to answer. Each cell is one call through the real
server to a thread, or a bucket in it, that belongs to the owner named above it. Buckets are private, but for
"read public" and "write a tree".

Where the original is laxer, the table says what is wanted here: a user's things cannot be reached with the key of another
developer, not even by the same identity and not through streams either ("badkey"), and without a token in the header an
account's session or key speaks for the account.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.keyring import ACCOUNT, USER, get_token, make_key, sign_up

from bucketfs.dag import drive, edit_directory, empty_directory
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import Identity
from bucketfs.types import Cid
from bucketfs.wire import blocks_pb2, hub_pb2, threads_pb2, users_pb2

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
THREADS = "threads.pb.API"
BLOCKS = "bucketfs.v1.Blocks"

ANSWERS = {
    # What happens, in the table's one word.
    "yes": ("OK", "done to what the owner has, or seen there"),
    "own": ("OK", "goes well, and has nothing to do with the owner: it makes or shows what the caller itself has"),
    "stranger": ("PERMISSION_DENIED", "User does not own thread"),
    "badkey": ("PERMISSION_DENIED", "Bad API key"),
    "token": ("UNAUTHENTICATED", "Token required"),
    "nobody": ("UNAUTHENTICATED", "Session or API key required"),
    "denied": ("UNKNOWN", "app denied net record body: permission denied"),
    # A swap of trees is no call of the original; its code is that of a push of many paths there.
    "refused": ("PERMISSION_DENIED", "app denied net record body: permission denied"),
    "hidden": ("UNKNOWN", "could not resolve path: d/f"),
    "unseen": ("OK", "as the protocol has it, the bucket is named but neither its entries nor its link key are shown"),
}

TABLE = """
                    session   account   org       user key  user key  other     other     insecure  no
                              key       key       and id    only      account   user key  key       key
                                                                      key       and id

developer's threads
  create            yes       yes       own       own       token     own       own       yes       nobody
  list              yes       yes       own       own       token     own       own       yes       nobody
  read              yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody
  write             yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody
  delete            yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody

developer's buckets
  create            yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody
  list              yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody
  list all          yes       yes       own       own       token     own       own       yes       nobody
  look              yes       yes       unseen    unseen    token     unseen    unseen    yes       nobody
  read              yes       yes       hidden    hidden    token     hidden    hidden    yes       nobody
  write             yes       yes       denied    denied    token     denied    denied    yes       nobody
  write a tree      yes       yes       refused   refused   token     refused   refused   yes       nobody
  read public       yes       yes       yes       yes       token     yes       yes       yes       nobody
  get a block       yes       yes       yes       yes       token     yes       yes       yes       nobody
  delete a path     yes       yes       denied    denied    token     denied    denied    yes       nobody
  delete            yes       yes       stranger  stranger  token     stranger  stranger  yes       nobody

organization's threads
  create            yes       own       yes       own       token     own       own       yes       nobody
  list              yes       own       yes       own       token     own       own       yes       nobody
  read              yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody
  write             yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody
  delete            yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody

organization's buckets
  create            yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody
  list              yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody
  list all          yes       own       yes       own       token     own       own       yes       nobody
  look              yes       unseen    yes       unseen    token     unseen    unseen    yes       nobody
  read              yes       hidden    yes       hidden    token     hidden    hidden    yes       nobody
  write             yes       denied    yes       denied    token     denied    denied    yes       nobody
  write a tree      yes       refused   yes       refused   token     refused   refused   yes       nobody
  read public       yes       yes       yes       yes       token     yes       yes       yes       nobody
  get a block       yes       yes       yes       yes       token     yes       yes       yes       nobody
  delete a path     yes       denied    yes       denied    token     denied    denied    yes       nobody
  delete            yes       stranger  yes       stranger  token     stranger  stranger  yes       nobody

user's threads
  create            own       own       own       yes       token     own       own       yes       nobody
  list              own       own       own       yes       token     own       own       yes       nobody
  read              stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody
  write             stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody
  delete            stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody

user's buckets
  create            stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody
  list              stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody
  list all          own       own       own       yes       token     own       own       yes       nobody
  look              unseen    unseen    unseen    yes       token     unseen    badkey    yes       nobody
  read              hidden    hidden    hidden    yes       token     hidden    badkey    yes       nobody
  write             denied    denied    denied    yes       token     denied    badkey    yes       nobody
  write a tree      refused   refused   refused   yes       token     refused   badkey    yes       nobody
  read public       yes       yes       yes       yes       token     yes       badkey    yes       nobody
  get a block       yes       yes       yes       yes       token     yes       yes       yes       nobody
  delete a path     denied    denied    denied    yes       token     denied    badkey    yes       nobody
  delete            stranger  stranger  stranger  yes       token     stranger  badkey    yes       nobody
"""
"""Columns:

session           the developer's; for what is the organization's, the same session with the organization named
account key       the developer's, who is a member of the organization and made the user's key
org key           an account key of the organization
user key and id   a user group key of the developer, and the user's token
user key only     the same key without a token
other …           keys of another developer; the identity is the same user's
insecure key      of the owner's own kind, and no signature: an account key, an organization's, a user group key (and token)
"""

COLUMNS = (
    "session", "account key", "org key", "user key and id", "user key only",
    "other account key", "other user key and id", "insecure key", "no key",
)  # fmt: skip


def cells() -> Iterator[tuple[str, str, str, list[str]]]:
    """(owner, what, action, the words of the row)."""
    owner = what = ""
    for line in TABLE.splitlines()[4:]:
        if line and not line.startswith(" "):
            owner, what = line.split("'s ")
        elif line.strip():
            words = line.split()
            yield owner, what, " ".join(words[: -len(COLUMNS)]), words[-len(COLUMNS) :]


@dataclass(frozen=True)
class Target:
    """A thread, and two buckets in it with a file each."""

    thread: bytes
    private: str
    public: str
    root: bytes
    new_root: bytes
    """Another root for the public bucket; its blocks are here."""


class World:
    """Everyone in the table, at one hub."""

    def __init__(self, bare: Any) -> None:
        self._bare = bare
        self._session, other = sign_up(bare, "dora"), sign_up(bare, "otto")
        org = self._session.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")).org_info
        self._as_org = self._session.using(x_textile_org=org.slug)

        def key(owner: Any, kind: int, *, secure: bool = True) -> Any:
            made = make_key(owner, kind, secure=secure)
            return bare.using(**made.headers()) if secure else bare.using(x_textile_api_key=made.key)

        self._keys = {
            "account key": key(self._session, ACCOUNT),
            "org key": key(self._as_org, ACCOUNT),
            "user key": key(self._session, USER),
            "other account key": key(other, ACCOUNT),
            "other user key": key(other, USER),
            "insecure developer": key(self._session, ACCOUNT, secure=False),
            "insecure organization": key(self._as_org, ACCOUNT, secure=False),
            "insecure user": key(self._session, USER, secure=False),
        }
        # One identity, and a token for it under each owner whose keys it comes beside.
        identity = Identity.generate()
        tokens = {name: get_token(self._keys[name], identity) for name in ("user key", "other user key")}
        self._tokens = {**tokens, "insecure user": tokens["user key"]}

    def caller(self, column: str, owner: str) -> Any:
        """A client with the credentials of a column."""
        if column == "session":
            return self._as_org if owner == "organization" else self._session
        if column == "no key":
            return self._bare
        if column == "insecure key":
            name = f"insecure {owner}"
            return self._as_user(name) if owner == "user" else self._keys[name]
        if column.endswith(" and id"):
            return self._as_user(column.removesuffix(" and id"))
        return self._keys[column.removesuffix(" only")]

    def _as_user(self, key: str) -> Any:
        return self._keys[key].using(authorization=f"bearer {self._tokens[key]}")

    def owner(self, owner: str) -> Any:
        """A client that may do everything to what is the owner's."""
        return self.caller("user key and id" if owner == "user" else "session", owner)

    def target(self, owner: str) -> Target:
        """A fresh one."""
        user = BucketUser.with_new_thread(self.owner(owner))
        private, public = (user.create("b", private=kind).root.key for kind in (True, False))
        for key in (private, public):
            user.push(key, "d/f", b"content")
        root = user.root_cid(public)
        held = {root: user.get_blocks([root])[0].data}
        made = drive(
            edit_directory(Cid(root), {b"new": empty_directory().link}), lambda cids: {cid: held[cid] for cid in cids}
        )
        user.put_blocks({**empty_directory().blocks, **made.blocks})
        return Target(user.thread, private, public, root, made.link.cid)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    config = HubConfig(data=tmp_path_factory.mktemp("hub"), listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config) as server, grpc.insecure_channel(server.address) as channel:
        yield World(Caller(channel))


# One function per thing and action: makes the call to what belongs to the owner, and says "yes", "own" or "unseen" when it went
# well. ``owner`` is a client of the owner, to look at the outcome with.


def create_thread(caller: Any, owner: Any, _target: Target) -> str:
    made = b"\x01\x55" + secrets.token_bytes(32)
    caller.call(THREADS, "NewDB", threads_pb2.NewDBRequest(dbID=made))
    return "yes" if made in threads_of(owner) else "own"


def threads_of(caller: Any) -> set[bytes]:
    return {thread.id for thread in caller.call(USERS, "ListThreads", users_pb2.ListThreadsRequest()).list}


def list_threads(caller: Any, _owner: Any, target: Target) -> str:
    return "yes" if target.thread in threads_of(caller) else "own"


def read_thread(caller: Any, _owner: Any, target: Target) -> str:
    info = caller.call(THREADS, "GetDBInfo", threads_pb2.GetDBInfoRequest(dbID=target.thread))
    return "yes" if len(info.key) == 64 else "no key"


def write_thread(caller: Any, _owner: Any, target: Target) -> str:
    config = threads_pb2.CollectionConfig(name="things", schema=b"{}")
    caller.call(THREADS, "NewCollection", threads_pb2.NewCollectionRequest(dbID=target.thread, config=config))
    return "yes"


def delete_thread(caller: Any, owner: Any, target: Target) -> str:
    for key in (target.private, target.public):
        BucketUser(owner, target.thread).ask("Remove", key=key)
    caller.call(THREADS, "DeleteDB", threads_pb2.DeleteDBRequest(dbID=target.thread))
    return "yes" if target.thread not in threads_of(owner) else "still there"


def create_bucket(caller: Any, owner: Any, target: Target) -> str:
    made = BucketUser(caller, target.thread).create("new").root.key
    return "yes" if made in keys_in(owner, target) else "own"


def keys_in(caller: Any, target: Target) -> set[str]:
    return {root.key for root in BucketUser(caller, target.thread).ask("List").roots}


def list_buckets(caller: Any, _owner: Any, target: Target) -> str:
    return "yes" if keys_in(caller, target) >= {target.private, target.public} else "own"


def list_all(caller: Any, _owner: Any, target: Target) -> str:
    found = {bucket.key for bucket in caller.call(BLOCKS, "Roots", blocks_pb2.RootsRequest()).buckets}
    return "yes" if found >= {target.private, target.public} else "own"


def look(caller: Any, _owner: Any, target: Target) -> str:
    root = BucketUser(caller, target.thread).root(target.private)
    if root.link_key:
        return "yes" if "d/f" in root.path_metadata else "partly"
    return "unseen" if not root.path_metadata else "partly"


def read(caller: Any, _owner: Any, target: Target) -> str:
    return "yes" if BucketUser(caller, target.thread).pull(target.private, "d/f") == b"content" else "other bytes"


def read_public(caller: Any, _owner: Any, target: Target) -> str:
    return "yes" if BucketUser(caller, target.thread).pull(target.public, "d/f") == b"content" else "other bytes"


def get_block(caller: Any, _owner: Any, target: Target) -> str:
    replies = caller.call(BLOCKS, "Get", blocks_pb2.GetRequest(cids=[target.root]))
    return "yes" if not replies[0].blocks[0].missing else "missing"


def write(caller: Any, owner: Any, target: Target) -> str:
    BucketUser(caller, target.thread).push(target.private, "d/f", b"changed")
    return "yes" if BucketUser(owner, target.thread).pull(target.private, "d/f") == b"changed" else "unchanged"


def write_tree(caller: Any, owner: Any, target: Target) -> str:
    BucketUser(caller, target.thread).swap(target.public, target.root, target.new_root)
    return "yes" if "new" in BucketUser(owner, target.thread).names(target.public) else "unchanged"


def delete_path(caller: Any, owner: Any, target: Target) -> str:
    BucketUser(caller, target.thread).ask("RemovePath", key=target.private, path="d/f")
    return "yes" if BucketUser(owner, target.thread).names(target.private, "d") == [] else "unchanged"


def delete_bucket(caller: Any, owner: Any, target: Target) -> str:
    BucketUser(caller, target.thread).ask("Remove", key=target.private)
    return "yes" if target.private not in keys_in(owner, target) else "still there"


ACTIONS: dict[tuple[str, str], Callable[[Any, Any, Target], str]] = {
    ("threads", "create"): create_thread,
    ("threads", "list"): list_threads,
    ("threads", "read"): read_thread,
    ("threads", "write"): write_thread,
    ("threads", "delete"): delete_thread,
    ("buckets", "create"): create_bucket,
    ("buckets", "list"): list_buckets,
    ("buckets", "list all"): list_all,
    ("buckets", "look"): look,
    ("buckets", "read"): read,
    ("buckets", "write"): write,
    ("buckets", "write a tree"): write_tree,
    ("buckets", "read public"): read_public,
    ("buckets", "get a block"): get_block,
    ("buckets", "delete a path"): delete_path,
    ("buckets", "delete"): delete_bucket,
}
CHANGING = {"write", "write a tree", "delete a path", "delete"}


def answer(act: Callable[[Any, Any, Target], str], caller: Any, owner: Any, target: Target) -> str:
    """The word of the table for what happened; code and text when the table has no word for them."""
    try:
        return act(caller, owner, target)
    except grpc.RpcError as error:
        said = raised(error)
    return next((word for word, meaning in ANSWERS.items() if meaning == said), str(said))


@pytest.mark.parametrize(
    ("owner", "what"), [(o, w) for o in ("developer", "organization", "user") for w in ("threads", "buckets")]
)
def test_access_summary(world: World, owner: str, what: str) -> None:
    """One kind of key or session would open a thread or bucket that is not its owner's, or be shut out of its own."""
    wrong = []
    target = world.target(owner)
    rows = [row for row in cells() if row[:2] == (owner, what)]
    assert {row[2] for row in rows} == {action for kind, action in ACTIONS if kind == what}
    for _, _, action, words in rows:
        for column, expected in zip(COLUMNS, words, strict=True):
            assert expected in ANSWERS, expected
            found = answer(ACTIONS[what, action], world.caller(column, owner), world.owner(owner), target)
            if found != expected:
                wrong.append(f"{action} with {column}: {found} instead of {expected}")
            if (action in CHANGING and found == "yes") or (action, what) == ("delete", "threads"):
                target = world.target(owner)
    assert not wrong, "\n".join([f"{owner}'s {what}", *wrong])


def test_the_table_is_complete() -> None:
    """A way in would stay untested, because the table of all ways has no row or column for it."""
    rows = list(cells())
    assert len(rows) == 3 * len(ACTIONS)
    assert all(len(words) == len(COLUMNS) for *_, words in rows)
