"""Somebody holds a token that is not theirs, or is their own at another app, and tries it beside every credential at every call.

Reported: with any session and another user's token, ``FindByID`` showed the keys of that user's private buckets. A token is good
beside the user group keys of the owner it was issued under, and nowhere else; and the token of a link is good for no call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BUCKETS, BucketUser, pb, raised
from support.keyring import ACCOUNT, HUB, THREADS, USER, get_token, make_key, sign_up

from bucketfs.dag import cid_text
from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.context import EventAction
from bucketfs.hub.rpc.authentication import CLOSED_TO_ALL, OPEN_TO_ALL, TOKEN_MAKERS
from bucketfs.hub.services import SERVICES
from bucketfs.keys import LINK_S, Identity
from bucketfs.types import Cid
from bucketfs.wire import hub_pb2, threads_pb2

CONTENT = b"what stands in a private file"
KINDS = ("session", "account key", "org key", "user key", "insecure key", "insecure user key")
OWNERS = ("dora", "mallory")
TOKENS = ("dora's", "mallory's", "a link's")
"""Beside none at all."""
USER_KINDS = ("user key", "insecure user key")
SHOWS = {"Find", "FindByID", "Listen", "Root", "List", "ListPath", "PullPath", "GetDBInfo"}
"""Calls that show secrets of the bucket to its owner."""
CHANGES = {"PushPath", "SetPath", "RemovePath", "PushPathAccessRoles", "SwapRoot"}


@dataclass
class World:
    """Two developers with all their keys, and a user of dora's app with a private bucket."""

    server: HubServer
    bare: Caller
    callers: dict[tuple[str, str], Caller] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    user: BucketUser = field(init=False)
    bucket: str = field(init=False)

    def __post_init__(self) -> None:
        identity = Identity.generate()
        for name in OWNERS:
            session = sign_up(self.bare, name)
            org = session.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name=f"{name}s")).org_info
            as_org = session.using(x_textile_org=org.slug)
            made = (
                session,
                self._with_key(session, ACCOUNT),
                self._with_key(as_org, ACCOUNT),
                self._with_key(session, USER),
                self._with_key(session, ACCOUNT, secure=False),
                self._with_key(session, USER, secure=False),
            )
            self.callers.update({(name, kind): caller for kind, caller in zip(KINDS, made, strict=True)})
            self.tokens[f"{name}'s"] = get_token(self.callers[name, "user key"], identity)
        self.user = BucketUser.with_new_thread(self.holding(self.callers["dora", "user key"], "dora's"))
        self.bucket = self.user.create("diary", private=True).root.key
        self.user.push(self.bucket, "d/f", CONTENT)
        link = self.user.ask("Links", key=self.bucket, path="d/f").url
        self.tokens["a link's"] = parse_qs(urlsplit(link).query)["token"][0]

    def _with_key(self, owner: Caller, kind: int, *, secure: bool = True) -> Caller:
        made = make_key(owner, kind, secure=secure)
        return self.bare.using(**made.headers()) if secure else self.bare.using(x_textile_api_key=made.key)

    def holding(self, caller: Caller, token: str) -> Caller:
        """The same caller with a token in the header."""
        return caller.using(authorization=f"bearer {self.tokens[token]}")

    @property
    def row(self) -> Any:
        return self.server.hub.database.bucket(self.user.thread, self.bucket)  # type: ignore[arg-type]

    def secrets(self) -> list[bytes]:
        """Everything that only the owner of the bucket may be shown, as it travels."""
        keys = [self.row.link_key, *(entry.key for entry in self.row.entries.values() if entry.key)]
        thread = self.server.hub.database.thread(self.user.thread)  # type: ignore[arg-type]
        return [CONTENT, thread.key, *keys, *map(base64.b64encode, keys)]

    def shown(self, caller: Caller, service: str, method: str) -> tuple[str, str, bytes]:
        """Code, text, and every byte that a call about the bucket answered."""
        caller = caller.using(x_textile_thread=self.user.caller.headers["x-textile-thread"])
        try:
            if method == "Listen":
                return "OK", "", self._heard(caller)
            answer = caller.call(service, method, self._request(service, method))
        except grpc.RpcError as error:
            return (*raised(error), b"")
        replies = answer if isinstance(answer, list) else [answer]
        return "OK", "", b"".join(reply.SerializeToString() for reply in replies)

    def _heard(self, caller: Caller) -> bytes:
        listening = caller.start(THREADS, "Listen", threads_pb2.ListenRequest(dbID=self.user.thread))
        try:
            listening.initial_metadata()
            self.server.hub.events.publish(self.row.thread, self.row.key, EventAction.SAVE)
            return bytes(next(listening).SerializeToString())
        finally:
            listening.cancel()

    def _request(self, service: str, method: str) -> Any:
        """A request that means the bucket wherever it can mean something."""
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
        if method == "PushPath":
            header = pb.PushPathRequest.Header(key=self.bucket, path="d/f")
            return iter([pb.PushPathRequest(header=header), pb.PushPathRequest(chunk=b"x")])
        if method == "PushPaths":
            return self.user.paths_requests(self.bucket, {"d/f": b"x"})
        request = message_factory.GetMessageClass(described.input_type)()
        for name in described.input_type.fields_by_name:
            self._fill(request, described.input_type.fields_by_name[name])
        return iter([request]) if described.client_streaming else request

    def _fill(self, request: Any, about: FieldDescriptor) -> None:
        root = Cid(self.row.root)
        values: dict[str, Any] = {
            "key": self.bucket, "instanceID": self.bucket, "instanceIDs": [self.bucket],
            "dbID": self.user.thread, "threadID": self.user.thread,
            "collectionName": "buckets", "queryJSON": b"{}",
            "path": f"/ipfs/{cid_text(root)}" if "Ipfs" in type(request).__name__ else "d/f",
            "from_path": "d/f", "to_path": "d/g", "roles": {"*": 3},
            "cid": root if about.type == FieldDescriptor.TYPE_BYTES else cid_text(root), "cids": [root],
            "expected": root, "new": root, "username_or_email": "nobody",
        }  # fmt: skip
        value = values.get(about.name)
        if value is None:
            return
        if isinstance(value, list):
            getattr(request, about.name).extend(value)
        elif isinstance(value, dict):
            getattr(request, about.name).update(value)
        elif about.type in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING):
            text = about.type == FieldDescriptor.TYPE_STRING
            setattr(request, about.name, value if isinstance(value, str) == text else value.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    config = HubConfig(tmp_path_factory.mktemp("hub"), "127.0.0.1:0", auto_confirm=True, gateway_listen="127.0.0.1:0")
    with HubServer(config) as server, grpc.insecure_channel(server.address) as channel:
        yield World(server, Caller(channel))


def offered(world: World) -> list[tuple[str, str]]:
    made = [make(world.server.hub) for make in SERVICES]
    return [(service.name, method) for service in made for method in service.methods]


def described(world: World) -> list[tuple[str, str]]:
    names = [make(world.server.hub).name for make in SERVICES]
    pool = descriptor_pool.Default()
    return [(name, method.name) for name in names for method in pool.FindServiceByName(name).methods]


def wrong_answers(world: World, calls: list[tuple[str, str]], kind: str) -> list[str]:
    """What went otherwise than the rule says, for one kind of credential of both owners with every token."""
    wrong, before, secrets = [], world.row, world.secrets()
    for owner in OWNERS:
        for service, method in calls:
            if method == "Signout":
                continue  # below
            plain = world.shown(world.callers[owner, kind], service, method)
            if any(secret in plain[2] for secret in secrets):
                wrong.append(f"{owner}'s {kind} without a token shows a secret at {method}")
            for token in TOKENS:
                if kind in USER_KINDS and owner == "dora" and token == "dora's":
                    continue  # the one who may
                code, text, data = world.shown(world.holding(world.callers[owner, kind], token), service, method)
                where = f"{owner}'s {kind} with the token {token} at {method}: {code} {text}"
                if any(secret in data for secret in secrets):
                    wrong.append(f"{where} shows a secret")
                if not as_it_should(owner, kind, token, (service, method), (code, text), plain[:2]):
                    wrong.append(f"{where}, without one {plain[:2]}")
    if world.row != before:
        wrong.append(f"a {kind} has changed the bucket")
    return wrong


def as_it_should(
    owner: str, kind: str, token: str, where: tuple[str, str], found: tuple[str, str], plain: tuple[str, str]
) -> bool:
    if where in OPEN_TO_ALL | CLOSED_TO_ALL | TOKEN_MAKERS:
        return found == plain
    if kind in USER_KINDS:
        own = token == f"{owner}'s"
        return (found[1] != "invalid thread token") if own else found == ("UNAUTHENTICATED", "invalid thread token")
    return found in (plain, ("UNKNOWN", "invalid thread token"))


@pytest.mark.parametrize("kind", KINDS)
def test_calls_about_a_bucket_with_every_pair(world: World, kind: str) -> None:
    """Someone who holds another user's token could read or change that user's buckets."""
    calls = [call for call in offered(world) if call[1] in SHOWS | CHANGES]
    assert not wrong_answers(world, calls, kind)


@pytest.mark.whole
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_with_every_pair(world: World, kind: str) -> None:
    """The same for all calls of the protocol: one of them would let a stranger in."""
    assert not wrong_answers(world, described(world), kind)


@pytest.mark.parametrize("kind", USER_KINDS)
def test_the_owner_is_shown_all_of_it(world: World, kind: str) -> None:
    """The table would notice: these calls do show what it looks for."""
    caller = world.holding(world.callers["dora", kind], "dora's")
    secrets = world.secrets()
    for service, method in offered(world):
        if method in SHOWS:
            code, text, data = world.shown(caller, service, method)
            assert (code, text) == ("OK", ""), method
            assert any(secret in data for secret in secrets), method


def test_signing_out_is_for_sessions(world: World) -> None:
    """A key or a token could end a session, or a client would take such a sign-out for done."""
    for owner in OWNERS:
        for kind in KINDS:
            if kind != "session":
                caller = world.holding(world.callers[owner, kind], f"{owner}'s")
                assert caller.refused(HUB, "Signout", hub_pb2.SignoutRequest()) == ("NOT_FOUND", "session not found")


def test_the_private_key_of_an_account_gets_a_token_beside_its_own_credentials_only(world: World) -> None:
    """Who learns an account's private key could use it from any other account."""
    dora = world.callers["dora", "session"]
    identity = Identity.from_bytes(dora.call(HUB, "GetIdentity", hub_pb2.GetIdentityRequest()).identity)
    assert all(get_token(world.callers["dora", kind], identity) for kind in ("session", "account key", "insecure key"))
    others = [("mallory", kind) for kind in KINDS] + [("dora", kind) for kind in (*USER_KINDS, "org key")]
    for other in others:
        with pytest.raises(grpc.RpcError) as caught:
            get_token(world.callers[other], identity)
        assert raised(caught.value)[0] == "PERMISSION_DENIED"


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_the_token_of_a_link_is_for_one_path_and_ends(world: World) -> None:
    """A link to one file would open the whole bucket, or for ever."""
    links = world.user.ask("Links", key=world.bucket, path="d/f")
    tokens = {parse_qs(urlsplit(url).query)["token"][0] for url in (links.url, links.ipns)}
    for token in tokens:
        claims = claims_of(token)
        assert (claims["aud"], claims["bucket"], claims["path"]) == ("link", world.bucket, "d/f")
        assert claims["exp"] == claims["iat"] + LINK_S
    made = world.user.create("another", private=True)
    token = parse_qs(urlsplit(made.links.url).query)["token"][0]
    assert (claims_of(token)["bucket"], claims_of(token)["path"]) == (made.root.key, "")
    assert {BUCKETS, BLOCKS, THREADS} <= {service for service, _ in offered(world)}
