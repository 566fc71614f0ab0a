"""Admission: every row of the protocol's tables of checks, on a real database."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bucketfs.dag import multibase_encode
from bucketfs.hub.db import AccountKind
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.models import AccountRow, KeyRow, ThreadRow
from bucketfs.hub.rpc.authentication import (
    BLOCKS,
    BUCKETS,
    HUB,
    SESSION_NS,
    THREADS,
    THREADS_NET,
    USERS,
    Authenticator,
    headers_of,
)
from bucketfs.hub.rpc.service import Call
from bucketfs.hub.rpc.status import Status
from bucketfs.keys import Identity, KeyType, api_signature, make_link_token, make_token, random_text
from bucketfs.types import ThreadId

NOW = 1_700_000_000 * 10**9
DAY = 24 * 3600 * 10**9
HOST = Identity(bytes(32))


@pytest.fixture
def gate(database: HubDatabase) -> Authenticator:
    return Authenticator(database, HOST)


@pytest.fixture
def account(database: HubDatabase) -> Callable[..., str]:
    def make(name: str, kind: AccountKind = AccountKind.DEVELOPER, owner: str | None = None) -> str:
        identity = Identity.generate()
        email = f"{name}@example.org" if kind is AccountKind.DEVELOPER else ""
        database.create_account(AccountRow(identity.public_key, kind, name, name, email, identity.seed, NOW), owner)
        return identity.public_key

    return make


@pytest.fixture
def key(database: HubDatabase) -> Callable[..., KeyRow]:
    def make(owner: str, kind: KeyType = KeyType.ACCOUNT, *, secure: bool = False, valid: bool = True) -> KeyRow:
        row = KeyRow(random_text(16), random_text(24), owner, kind, secure, valid)
        database.create_key(row, NOW)
        return row

    return make


@pytest.fixture
def thread(database: HubDatabase) -> Callable[..., ThreadId]:
    def make(owner: str, api_key: str = "") -> ThreadId:
        made = ThreadId(b"\x01\x55" + random_text(20).encode())
        database.create_thread(ThreadRow(made, owner, "", "unnamed", api_key, True, bytes(64), NOW))
        return made

    return make


def refusal(
    gate: Authenticator, service: str = USERS, method: str = "ListThreads", *, now_ns: int = NOW, **headers: str
) -> tuple[str, str]:
    with pytest.raises(Status) as caught:
        admit(gate, service, method, now_ns, **headers)
    return caught.value.code.name, caught.value.text


def admit(gate: Authenticator, service: str = USERS, method: str = "ListThreads", now_ns: int = NOW, **headers: str) -> Call:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return gate.admit(service, method, headers_of(pairs), now_ns)


def test_headers_first_value_counts_and_empty_is_absent() -> None:
    """A client that repeats a header, or sends an empty one, would be admitted as someone else."""
    pairs: list[tuple[str, str | bytes]] = [("a", "1"), ("a", "2"), ("b", ""), ("b", "3"), ("x-bin", b"raw")]
    assert headers_of(pairs) == {"a": "1", "b": "3"}


@pytest.mark.parametrize("method", ["Signup", "Signin", "IsUsernameAvailable"])
def test_some_methods_need_nothing(gate: Authenticator, method: str) -> None:
    """No one could sign up or in, because that would need a session already."""
    assert admit(gate, HUB, method, authorization="nonsense").account == ""


@pytest.mark.parametrize(("service", "method"), [(THREADS, "ListDBs"), (THREADS_NET, "Subscribe")])
def test_some_methods_are_closed_before_credentials_are_looked_at(gate: Authenticator, service: str, method: str) -> None:
    """Callers could list all threads of the Hub, or learn from the answer whether a key is good."""
    assert refusal(gate, service, method, authorization="nonsense") == ("PERMISSION_DENIED", "Method is not accessible")


def test_authorization_is_checked_before_credentials(gate: Authenticator) -> None:
    """A Textile client would get another error than it knows, and would not ask for a new token."""
    assert refusal(gate, authorization="nonsense") == ("UNAUTHENTICATED", "Bad authorization string")
    assert refusal(gate, authorization="basic abc") == ("UNAUTHENTICATED", "Request unauthenticated with bearer")
    assert refusal(gate, authorization="BeaRer abc") == ("UNAUTHENTICATED", "Session or API key required")
    assert refusal(gate) == ("UNAUTHENTICATED", "Session or API key required")


def test_sessions(gate: Authenticator, database: HubDatabase, account: Callable[..., str]) -> None:
    """Sessions would not end, would end while in use, or stand readable in a log."""
    user = account("alice")
    database.create_session("secret-session", user, NOW + DAY)
    call = admit(gate, x_textile_session="secret-session", x_textile_api_key="ignored")
    assert (call.account, call.user, call.writer, call.account_kind) == (user, user, user, AccountKind.DEVELOPER)
    assert call.key_type is None
    assert "secret-session" not in repr(call)
    row = database.session("secret-session")
    assert row is not None
    assert row.expires_at_ns == NOW + SESSION_NS
    assert refusal(gate, x_textile_session="other") == ("UNAUTHENTICATED", "Invalid session")
    late = NOW + SESSION_NS + 1
    assert refusal(gate, now_ns=late, x_textile_session="secret-session") == ("UNAUTHENTICATED", "Expired session")


def test_a_session_outlives_its_account_uselessly(gate: Authenticator, database: HubDatabase) -> None:
    """A session of a destroyed account would still open something."""
    database.create_session("s", "nobody", NOW + DAY)
    assert refusal(gate, x_textile_session="s") == ("NOT_FOUND", "User not found")


def test_acting_as_an_org(gate: Authenticator, database: HubDatabase, account: Callable[..., str]) -> None:
    """A person could act for an organization that they are not a member of."""
    alice, bob = account("alice"), account("bob")
    org = account("acme", AccountKind.ORG, alice)
    database.create_session("a", alice, NOW + DAY)
    database.create_session("b", bob, NOW + DAY)
    call = admit(gate, x_textile_session="a", x_textile_org="acme")
    assert (call.account, call.user, call.writer, call.account_kind) == (org, alice, org, AccountKind.ORG)
    refused = ("PERMISSION_DENIED", "User is not an org member")
    assert refusal(gate, x_textile_session="b", x_textile_org="acme") == refused
    assert refusal(gate, x_textile_session="a", x_textile_org="nope") == refused
    assert refusal(gate, x_textile_session="a", x_textile_org="bob") == refused


def test_account_keys(gate: Authenticator, account: Callable[..., str], key: Callable[..., KeyRow]) -> None:
    """An invalidated key would still open the account, or a key would stand readable in a log."""
    alice = account("alice")
    org = account("acme", AccountKind.ORG, alice)
    plain, orgs, dead, orphan = key(alice), key(org), key(alice, valid=False), key("nobody")
    call = admit(gate, x_textile_api_key=plain.key)
    assert (call.account, call.user, call.writer, call.key_type) == (alice, alice, alice, KeyType.ACCOUNT)
    assert plain.secret not in repr(plain)
    assert plain.key not in repr(call)
    call = admit(gate, x_textile_api_key=orgs.key)
    assert (call.account, call.user, call.account_kind) == (org, None, AccountKind.ORG)
    for wrong in (dead.key, "bunknown"):
        assert refusal(gate, x_textile_api_key=wrong) == ("NOT_FOUND", "API key not found or is invalid")
    assert refusal(gate, x_textile_api_key=orphan.key) == ("NOT_FOUND", "Account not found")


def test_signatures(gate: Authenticator, account: Callable[..., str], key: Callable[..., KeyRow]) -> None:
    """Someone who saw a key, but not its secret, could use it; or use an old signature again."""
    row = key(account("alice"), secure=True)
    moment = datetime.datetime.fromtimestamp(NOW / 1e9, datetime.UTC)
    soon = (moment + datetime.timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    past = (moment - datetime.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def headers(message: str, base: str = "b") -> dict[str, Any]:
        signature = multibase_encode(api_signature(row.secret, message), base)
        return {"x_textile_api_key": row.key, "x_textile_api_sig_msg": message, "x_textile_api_sig": signature}

    assert admit(gate, **headers(soon)).api_key == row.key
    assert admit(gate, **headers(soon, "z")).api_key == row.key
    bad = ("UNAUTHENTICATED", "Bad API key signature")
    assert refusal(gate, **headers(past)) == bad
    assert refusal(gate, **headers("tomorrow")) == bad
    assert refusal(gate, **{**headers(soon), "x_textile_api_sig_msg": soon.replace("Z", ".0Z")}) == bad
    required = ("UNAUTHENTICATED", "API key signature required")
    assert refusal(gate, **{**headers(soon), "x_textile_api_sig": ""}) == required
    assert refusal(gate, **{**headers(soon), "x_textile_api_sig_msg": ""}) == required
    assert refusal(gate, **{**headers(soon), "x_textile_api_sig": "?no base"}) == required


def test_signatures_of_insecure_keys_are_not_looked_at(
    gate: Authenticator, account: Callable[..., str], key: Callable[..., KeyRow]
) -> None:
    """Clients with a key that needs no signature would be refused for the signature that they send all the same."""
    assert admit(gate, x_textile_api_key=key(account("alice")).key, x_textile_api_sig="?").account


def test_user_keys(gate: Authenticator, account: Callable[..., str], key: Callable[..., KeyRow]) -> None:
    """The user of one app could act as a user of another app, or with a token that they forged."""
    row, user = key(account("alice"), KeyType.USER), Identity.generate()
    token = make_token(HOST, user.public_key, NOW, row.owner)
    call = admit(gate, x_textile_api_key=row.key, authorization=f"bearer {token}")
    assert (call.account, call.writer, call.user, call.account_kind) == (
        user.public_key,
        user.public_key,
        None,
        AccountKind.USER,
    )
    assert admit(gate, THREADS, "GetToken", x_textile_api_key=row.key).account == ""
    assert refusal(gate, x_textile_api_key=row.key) == ("UNAUTHENTICATED", "Token required")
    assert refusal(gate, x_textile_api_key=row.key, authorization="bearer no.jwt") == (
        "PERMISSION_DENIED",
        "Bad authorization",
    )
    for forged in (
        make_token(Identity.generate(), user.public_key, NOW, row.owner),
        make_token(HOST, user.public_key, NOW, account("bob")),
        make_token(HOST, user.public_key, NOW),
        make_link_token(HOST, user.public_key, "bucket", "", NOW),
    ):
        code, text = refusal(gate, x_textile_api_key=row.key, authorization=f"bearer {forged}")
        assert (code, text) == ("UNAUTHENTICATED", "invalid thread token")
    odd = make_token(HOST, "no key", NOW, row.owner)
    assert refusal(gate, x_textile_api_key=row.key, authorization=f"bearer {odd}")[0] == "UNKNOWN"


def test_the_thread_header(
    gate: Authenticator, account: Callable[..., str], key: Callable[..., KeyRow], vectors: dict[str, Any]
) -> None:
    """Clients would work in another thread than they named, or be refused for a header of a known form."""
    row = key(account("alice"))
    for vector in vectors["thread_ids"]:
        call = admit(gate, x_textile_api_key=row.key, x_textile_thread=vector["string_base58btc"])
        assert call.thread == bytes.fromhex(vector["bytes_hex"])
    assert admit(gate, x_textile_api_key=row.key, x_textile_thread="bafkx").thread is None
    assert admit(gate, x_textile_api_key=row.key).thread is None
    headers = {name: value for name, value in vectors["context_headers"]["headers"].items() if name != "x-textile-session"}
    refused = refusal(gate, **{name.replace("-", "_"): value for name, value in headers.items()})
    assert refused == ("NOT_FOUND", "API key not found or is invalid")


def check(gate: Authenticator, call: Call, service: str, method: str, **fields: Any) -> str:
    try:
        gate.check_thread(call, service, method, SimpleNamespace(**fields))
    except Status as status:
        return status.text
    return "ok"


def test_threads_are_their_owners(gate: Authenticator, account: Callable[..., str], thread: Callable[..., ThreadId]) -> None:
    """A caller could list or delete the threads and buckets of another account."""
    alice, bob = account("alice"), account("bob")
    own, other, unknown = thread(alice), thread(bob), ThreadId(b"\x01\x55xyz")
    stranger = "User does not own thread"

    def call(header: ThreadId | None) -> Call:
        return Call(account=alice, thread=header)

    assert check(gate, call(own), BUCKETS, "List") == "ok"
    assert check(gate, call(None), USERS, "ListThreads") == "ok"
    for header in (other, unknown):
        assert check(gate, call(header), BUCKETS, "List") == stranger
        assert check(gate, call(header), BUCKETS, "Remove") == stranger
        assert check(gate, call(header), HUB, "CreateKey") == stranger
        assert check(gate, call(header), USERS, "GetThread") == stranger
        assert check(gate, call(header), BUCKETS, "ListPath") == "ok"
        assert check(gate, call(header), THREADS, "FindByID", dbID=header) == "ok"
        assert check(gate, call(header), BLOCKS, "SwapRoot") == "ok"
        assert check(gate, call(header), THREADS, "NewDB", dbID=header) == "ok"
        assert check(gate, call(None), THREADS, "DeleteDB", dbID=header) == stranger
        assert check(gate, call(own), THREADS, "GetDBInfo", dbID=header) == stranger
    assert check(gate, call(None), THREADS, "GetDBInfo", dbID=own) == "ok"
    assert check(gate, call(None), THREADS, "GetDBInfo", dbID=b"junk") == "invalid thread ID"


def test_a_user_key_reaches_the_threads_made_with_keys_of_its_owner(gate: Authenticator, database: HubDatabase) -> None:
    """After a key was replaced users could not reach their threads; or a key of another developer would reach them."""

    def made(name: bytes, realm: str) -> ThreadId:
        row = ThreadRow(ThreadId(b"\x01\x55" + name), "user", "", "unnamed", "old key", True, bytes(64), NOW, realm)
        database.create_thread(row)
        return row.id

    apps, own = made(b"one", "app owner"), made(b"two", "")

    def call(thread: ThreadId, realm: str) -> Call:
        kind, key = AccountKind.USER, KeyType.USER
        return Call(account="user", account_kind=kind, key_type=key, api_key="new key", realm=realm, thread=thread)

    for method in ("List", "ListPath"):
        assert check(gate, call(apps, "app owner"), BUCKETS, method) == "ok"
        assert check(gate, call(apps, "somebody else"), BUCKETS, method) == "Bad API key"
        # What a developer made with a session or an account key is no app's, also not the developer's own.
        assert check(gate, call(own, "app owner"), BUCKETS, method) == "Bad API key"
    for service, method, fields in ((BUCKETS, "PushPath", {}), (THREADS, "Listen", {"dbID": apps})):
        request = SimpleNamespace(**fields)
        gate.check_realm(call(apps, "app owner"), service, method, request)
        with pytest.raises(Status, match="Bad API key"):
            gate.check_realm(call(apps, "somebody else"), service, method, request)
