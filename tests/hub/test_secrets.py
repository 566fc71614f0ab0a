"""Nothing secret leaves the hub but to whom it belongs: not in a log at any level, not in an error, not in a file others read."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser
from support.keyring import USER, get_token, invalidate, make_key, sign_up
from support.planting import bucket_by_key

from bucketfs.dag import multibase_decode
from bucketfs.hub import HubServer, collect
from bucketfs.keys import Identity, thread_from_text
from bucketfs.wire import blocks_pb2, hub_pb2, threads_pb2, users_pb2

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
THREADS = "threads.pb.API"


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All loggers of the process at their most talkative; the database's is quiet unless asked by name."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "sqlalchemy"):
        yield caplog
    logging.getLogger("sqlalchemy.engine").setLevel(logging.NOTSET)


def spellings(secret: str | bytes) -> list[str]:
    """How a secret could stand in a text."""
    if isinstance(secret, bytes):
        return [secret.hex(), repr(secret)[2:-1]]
    found = [secret]
    with contextlib.suppress(Exception):
        raw = multibase_decode(secret)
        found += [raw.hex(), repr(raw)[2:-1]]
    return found


def test_no_secret_in_logs_and_errors(
    everything_logged: pytest.LogCaptureFixture,
    start_hub: Callable[..., HubServer],
    dial: Callable[[str], Caller],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who reads the Hub's log could act as any of its users."""
    announced: list[str] = []
    server = start_hub(announce=announced.append, refuse_insecure_keys=False)
    bare = dial(server.address)
    errors: list[str] = []
    secrets: dict[str, Any] = {}

    def fails(call: Callable[[], Any]) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        errors.append(f"{caught.value!r} {caught.value.trailing_metadata()}")

    alice = sign_up(bare, "alice")
    secrets["session"] = alice.headers["x-textile-session"]
    account = Identity.from_bytes(alice.call(HUB, "GetIdentity", hub_pb2.GetIdentityRequest()).identity)
    secrets["account key"], secrets["account seed"] = account.private_key, account.seed
    key, loose, users = make_key(alice), make_key(alice, secure=False), make_key(alice, USER)
    secrets["secret"], secrets["insecure key"], secrets["user secret"] = key.secret, loose.key, users.secret
    secrets["signature"] = key.headers()["x_textile_api_sig"]
    org = alice.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")).org_info
    as_org = alice.using(x_textile_org=org.slug)
    secrets["invitation"] = as_org.call(HUB, "InviteToOrg", hub_pb2.InviteToOrgRequest(email="eve@example.org")).token
    identity = Identity.generate()
    secrets["identity"], secrets["identity seed"] = identity.private_key, identity.seed
    secrets["token"] = get_token(bare.using(**users.headers()), identity)
    secrets["host seed"] = server.hub.host_key.seed

    for client in (alice, as_org, bare.using(**key.headers()), bare.using(x_textile_api_key=loose.key)):
        use(client, secrets, server)
    user = bare.using(authorization=f"bearer {secrets['token']}", **users.headers())
    use(user, secrets, server)
    alice.call(HUB, "ListKeys", hub_pb2.ListKeysRequest())

    # And everything that goes wrong with them.
    ask = users_pb2.ListThreadsRequest()
    for headers in (
        {"x_textile_api_sig_msg": "2001-01-01T00:00:00Z"},
        {"x_textile_api_sig": key.secret},
        {"x_textile_api_key": key.secret},
        {"x_textile_session": secrets["session"][:-1]},
        {"authorization": secrets["token"]},
        {"authorization": f"basic {secrets['token']}"},
    ):
        fails(functools.partial(bare.using(**{**key.headers(), **headers}).call, USERS, "ListThreads", ask))
    forged = {"authorization": f"bearer {secrets['token'][:-4]}AAAA"}
    fails(lambda: bare.using(**users.headers(), **forged).call(USERS, "ListThreads", ask))
    fails(lambda: bare.using(**users.headers(), authorization="bearer x").call(USERS, "ListThreads", ask))
    fails(lambda: get_token(bare.using(**users.headers()), Wrong(identity)))
    fails(lambda: alice.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")))
    fails(lambda: alice.call(HUB, "InvalidateKey", hub_pb2.InvalidateKeyRequest(key=secrets["insecure key"] + "x")))
    invalidate(alice, loose)
    fails(lambda: bare.using(x_textile_api_key=loose.key).call(USERS, "ListThreads", ask))
    # A bug, with a traceback.
    with monkeypatch.context() as patch:
        patch.setattr(server.hub.database, "threads_of", _bug)
        fails(lambda: alice.call(USERS, "ListThreads", ask))
    alice.call(HUB, "Signout", hub_pb2.SignoutRequest())

    told = [everything_logged.text, *errors, repr(server.config), repr(server.hub), repr(account)]
    told += [repr(row) for row in server.hub.database.keys(account.public_key)]
    told += [repr(server.hub.database.account(account.public_key))]
    told += [str(record.args) for record in everything_logged.records]
    assert "ListThreads failed" in everything_logged.text, "the log was listened to"
    assert "SELECT" in everything_logged.text, "the database's too"
    for name, secret in secrets.items():
        for spelling in spellings(secret):
            # An insecure key stands in listings of its owner, which are no logs.
            where = [text for text in told if spelling in text]
            if name == "insecure key":
                where = [text for text in where if not text.startswith("KeyRow")]
            assert not where, f"{name} in {where[0][max(0, where[0].index(spelling) - 200) :][:400]}"
    assert any(secrets["invitation"] in line for line in announced), "the one place for it"


class Wrong(Identity):
    """Signs something else."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity.seed)

    def sign(self, message: bytes) -> bytes:
        return super().sign(message + b"!")


def _bug(*_arguments: object) -> Any:
    raise RuntimeError("a bug")


def use(client: Caller, secrets: dict[str, Any], server: HubServer) -> None:
    """A bit of everything."""
    user = BucketUser.with_new_thread(client)
    key = user.create("b", private=True).root.key
    user.push(key, "d/f", b"content")
    user.push_paths(key, {"a": b"1", "b": b"2"})
    user.ask("PushPathAccessRoles", key=key, path="d", roles={"*": 1})
    user.pull(key, "d/f")
    user.listing(key)
    user.ask("Links", key=key)
    client.call(THREADS, "GetDBInfo", threads_pb2.GetDBInfoRequest(dbID=user.thread))
    request = threads_pb2.FindRequest(dbID=user.thread, collectionName="buckets", queryJSON=b"{}")
    client.call(THREADS, "Find", request)
    user.blocks("Roots", blocks_pb2.RootsRequest())
    row = bucket_by_key(server.hub.database, key)
    assert row.link_key is not None
    secrets[f"link key {key}"] = row.link_key
    secrets.update((f"file key {key} {path}", entry.key) for path, entry in row.entries.items() if entry.key)
    secrets[f"thread key {key}"] = server.hub.database.thread(thread_from_text(user.root(key).thread)).key
    assert row.link_key.hex() not in repr(row)


def test_all_files_are_the_owners_alone(start_hub: Callable[..., HubServer], dial: Any, tmp_path: Path) -> None:
    """Other users of the machine could read the Hub's accounts and blocks."""
    before = os.umask(0o022)
    try:
        server = start_hub()
        user = BucketUser.with_new_thread(sign_up(dial(server.address), "dora"))
        key = user.create().root.key
        user.push(key, "f", os.urandom(300_000))
        user.ask("Remove", key=key)
        collect(server.config, grace_s=0)
        user.push(user.create().root.key, "f", os.urandom(300_000))
        found = sorted((tmp_path / "hub").rglob("*"))
        names = {path.name for path in found}
        assert {"hub.sqlite", "hub.sqlite-wal", "index.sqlite", "index.sqlite-wal"} <= names
        assert any(path.suffix == ".pack" for path in found)
        for path in (tmp_path / "hub", *found):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), f"{path.name}: {mode:o}"
    finally:
        os.umask(before)


def test_files_of_before_are_made_private(start_hub: Callable[..., HubServer], tmp_path: Path) -> None:
    """Files of an older version would stay readable for other users of the machine."""
    start_hub().stop()
    for name in ("hub.sqlite", "blocks/index.sqlite"):
        (tmp_path / "hub" / name).chmod(0o644)
    start_hub()
    for path in (tmp_path / "hub").rglob("*.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
