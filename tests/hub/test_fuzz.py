"""Nonsense of every kind: no INTERNAL, no traceback, and nobody gets in without credentials.

Calls go out as raw bytes, so that what no client library would send is sent too. A failing case is printed with its seed and
number; the same seed makes the same calls.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from support.bareclient import Caller
from support.bucketuser import BucketUser
from support.keyring import FAR_DATE, USER, get_token, make_key, sign_up

from bucketfs.dag import cid_of, cid_text, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.hub import HubServer
from bucketfs.hub.threaddb import select
from bucketfs.keys import Identity, make_token
from bucketfs.wire import blocks_pb2, buckets_pb2, hub_pb2, threads_net_pb2, threads_pb2, users_pb2

FILES = (blocks_pb2, buckets_pb2, hub_pb2, threads_net_pb2, threads_pb2, users_pb2)
METHODS = [method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods]
OPEN = {"Signup", "Signin", "IsUsernameAvailable"}
# What they do when they go well would take the ground from under the fuzz.
ENDING = {"DestroyAccount", "Signout", "InvalidateKey", "RemoveOrg", "LeaveOrg", "DeleteDB", "Remove"}
DEEP = {"Find", "SwapRoot", "PushPath", "PushPaths", "MovePath", "SetPath", "RemovePath", "Create", "PushPathAccessRoles"}
OFTEN = [*METHODS, *(method for method in METHODS if method.name in DEEP for _ in range(4))]
# Who asks by CID for a node that makes no sense is told so with DATA_LOSS; of a bucket nobody may hear that.
BY_CID = {"Get", "GetTree", "ListIpfsPath", "PullIpfsPath"}
QUERY_NAMES = ("Ands", "ors", "sort", "seek", "limit", "skip", "fieldPath", "operation", "value", "string", "float", "desc")
NUMBERS = (0, 1, 2, -1, 31, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
CALL_TIMEOUT_S = 20.0
SHORT_S, LONG_S = 5.0, 120.0


def nonsense_query(chance: random.Random) -> bytes:
    """A query, more or less."""
    leaves: tuple[Any, ...] = (None, True, 0, -1, 2.5, 1 << 70, "", "_id", "name", "metadata", "a.b", float("nan"), [], {})

    def value(depth: int) -> Any:
        if depth > 4 or (depth and chance.random() < 0.3):
            return chance.choice(leaves)
        if depth and chance.random() < 0.3:
            return [value(depth + 1) for _ in range(chance.randrange(3))]
        return {name: value(depth + 1) for name in chance.sample(QUERY_NAMES, chance.randrange(1, 5))}

    return json.dumps(value(0)).encode()


class Fuzz:
    """A hub with something in it, and endless nonsense for it."""

    def __init__(self, server: HubServer, bare: Caller, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.server = server
        self.bare = bare
        self.calls = 0
        self.went_well = 0
        session = sign_up(bare, "alice")
        account, users = make_key(session), make_key(session, USER)
        identity = Identity.generate()
        token = get_token(bare.using(**users.headers()), identity)
        self.callers = [
            session.headers,
            bare.using(**account.headers()).headers,
            bare.using(**users.headers(), authorization=f"bearer {token}").headers,
        ]
        user = BucketUser.with_new_thread(session)
        self.keys = [user.create(private=private).root.key for private in (False, True)]
        for key in self.keys:
            user.push(key, "d/f", b"content")
        root = user.root_cid(self.keys[0])
        self.texts: list[str] = [
            *self.keys, "d", "d/f", "", "/", "..", ".textileseed", "buckets", "*", "\0", "é" * 200, "a/" * 300,
            user.root(self.keys[0]).path, cid_text(cid_of(b"")), identity.public_key, multibase_encode(user.thread),
            FAR_DATE, token, users.key, "alice", "x@y.org", "a-b", "E11000", "\U0010ffff", "b" * 5000,
        ]  # fmt: skip
        self.bytes = [user.thread, root, cid_of(b"x"), b"", b"\1\x55", bytes(32), identity.seed, root[:-1], root + b"x"]
        # By name of field: what gets a call past its first look.
        self.likely: dict[str, list[Any]] = {
            "key": self.keys,
            "dbID": [user.thread],
            "collectionName": ["buckets"],
            "instanceID": self.keys,
            "instanceIDs": self.keys,
            "path": ["d", "d/f", "", "new", "d/f/g"],
            "from_path": ["d", "d/f"],
            "cid": [root, cid_of(b"")],
            "cids": [root],
            "expected": [root],
            "root": [user.root(self.keys[0]).path],
            "thread": [user.thread],
        }
        self.headers_known: dict[str, str] = {
            "x-textile-session": session.headers["x-textile-session"],
            "x-textile-org": "alice",
            "x-textile-api-key": account.key,
            "x-textile-api-sig": account.headers()["x_textile_api_sig"],
            "x-textile-api-sig-msg": FAR_DATE,
            "x-textile-thread": multibase_encode(user.thread),
            "x-textile-thread-name": "name",
            "authorization": f"bearer {token}",
        }
        self.host = server.hub.host_key

    # Nonsense

    def some_bytes(self) -> bytes:
        kind = self.random.randrange(3)
        if kind == 0:
            return self.random.choice(self.bytes)
        if kind == 1:
            return self.mangled(self.random.choice(self.bytes))
        return self.random.randbytes(self.random.choice((1, 2, 33, 300, 5000)))

    def mangled(self, data: bytes) -> bytes:
        """Cut off, changed, or with something in it."""
        at = self.random.randrange(len(data) + 1)
        kind = self.random.randrange(3)
        if kind == 0:
            return data[:at]
        return data[:at] + self.random.randbytes(self.random.randrange(1, 4)) + data[at + (kind == 1) :]

    def some_text(self) -> str:
        if self.random.random() < 0.7:
            return self.random.choice(self.texts)
        return "".join(chr(self.random.choice((0, 9, 47, 46, 98, 0x20AC, 0x1F600, 0xE000))) for _ in range(9))

    def header_value(self, name: str) -> str:
        kind = self.random.randrange(5)
        known = self.headers_known[name]
        if kind == 0:
            return known
        if kind == 1:
            return known[: self.random.randrange(len(known) + 1)]
        if kind == 2:
            at = self.random.randrange(len(known))
            return known[:at] + chr(self.random.randrange(0x20, 0x7F)) + known[at + 1 :]
        if kind == 3:
            return self.forged()
        return "".join(chr(self.random.randrange(0x20, 0x7F)) for _ in range(self.random.choice((1, 20, 400))))

    def forged(self) -> str:
        """A token that only looks like one, or one that is none."""
        subject = self.random.choice((Identity.generate().public_key, "nobody", ""))
        token = make_token(self.random.choice((Identity.generate(), self.host)), "nobody", 0)
        if self.random.random() < 0.5:
            token = make_token(Identity.generate(), subject, 0)
        head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        parts = token.split(".")
        return self.random.choice(
            (f"bearer {token}", f"bearer {head}.{parts[1]}.", f"bearer {'.'.join(parts[:2])}", "bearer ..", "bearer")
        )

    def headers(self, honest: bool) -> list[tuple[str, str]]:
        if honest:
            found = dict(self.random.choice(self.callers))
            found["x-textile-thread"] = self.headers_known["x-textile-thread"]
            for name in ("x-textile-thread", "x-textile-thread-name", "x-textile-org"):
                if self.random.random() < 0.25:
                    found[name] = self.header_value(name)
        else:
            names = self.random.sample(sorted(self.headers_known), self.random.randrange(4))
            found = {name: self.header_value(name) for name in names}
        # Spaces at the ends are no part of a header's value and what is empty is not there.
        return [(name, value.strip()) for name, value in found.items()]

    def message(self, kind: Any, depth: int = 0) -> Any:
        """A message with fields of the right types."""
        made = message_factory.GetMessageClass(kind)()
        for field in kind.fields:
            if self.random.random() < 0.3 or depth > 3:
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                getattr(made, field.name)[self.some_text()] = self.random.choice((0, 1, 2, 3))
            elif field.is_repeated:
                values = [self.value(field, depth) for _ in range(self.random.randrange(4))]
                getattr(made, field.name).extend(values)
            elif field.message_type is not None:
                getattr(made, field.name).CopyFrom(self.value(field, depth))
            else:
                setattr(made, field.name, self.value(field, depth))
        return made

    def value(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, depth + 1)
        if self.random.random() < 0.7:
            text = field.type == FieldDescriptor.TYPE_STRING
            kind = str if text else bytes
            likely = [value for value in self.likely.get(field.name, ()) if isinstance(value, kind)]
            if likely and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                return self.random.choice(likely)
        if field.name == "queryJSON":
            return self.random.choice((nonsense_query(self.random), self.some_bytes(), b"[" * 5000, b"{"))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.some_bytes()
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.some_text()
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self.random.choice((0, 1, 2, 3, 99, -1))
        long = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
        signed = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_INT32)
        return self.random.choice([n for n in NUMBERS if (signed or n >= 0) and (long or abs(n) <= 2**31)])

    def requests(self, method: Any) -> list[bytes]:
        count = self.random.randrange(4) if method.client_streaming else 1
        found = [self.message(method.input_type).SerializeToString() for _ in range(count)]
        if method.name in ("PushPath", "PushPaths") and self.random.random() < 0.5:
            # Random headers seldom name a bucket.
            header: Any = message_factory.GetMessageClass(method.input_type)()
            header.header.key = self.random.choice(self.keys)
            found.insert(0, header.SerializeToString())
        for at, data in enumerate(found):
            if self.random.random() < 0.15:
                found[at] = self.mangled(data)
        return found

    # Calls

    def call(self) -> None:
        """One call with nonsense in it somewhere."""
        self.calls += 1
        honest = self.random.random() < 0.6
        method = self.random.choice(OFTEN)
        headers, requests = self.headers(honest), self.requests(method)
        if method.name in ENDING and self.authentic(dict(headers)):
            return
        where = f"seed {self.seed}, call {self.calls}: {method.full_name} {headers} {requests}"
        try:
            code = self.answer(method, headers, requests)
        except ValueError:
            return  # the client library itself refused to send these headers
        assert code is not grpc.StatusCode.INTERNAL, where
        assert code is not grpc.StatusCode.DATA_LOSS or method.name in BY_CID, where
        if code is grpc.StatusCode.OK:
            self.went_well += 1
            assert self.authentic(dict(headers)) or method.name in OPEN, f"access: {where}"

    def authentic(self, headers: dict[str, str]) -> bool:
        """Whether these headers hold a credential that was really given out, as it was given out."""
        known = self.headers_known
        if headers.get("x-textile-session"):
            return headers["x-textile-session"] == known["x-textile-session"]
        names = ("x-textile-api-key", "x-textile-api-sig", "x-textile-api-sig-msg")
        return any(all(headers.get(name) == given.get(name) for name in names) for given in [known, *self.callers[1:]])

    def answer(self, method: Any, headers: list[tuple[str, str]], requests: list[bytes]) -> Any:
        """The status code of a call."""
        kinds = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }
        make = getattr(self.bare.channel, kinds[method.client_streaming, method.server_streaming])
        stub = make(f"/{method.containing_service.full_name}/{method.name}")
        argument = iter(requests) if method.client_streaming else requests[0]
        # A listener that nothing is told has to be hung up on.
        timeout_s = 0.05 if method.name == "Listen" else CALL_TIMEOUT_S
        try:
            if method.server_streaming:
                for _ in stub(argument, metadata=headers, timeout=timeout_s):
                    pass
            else:
                stub(argument, metadata=headers, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                assert method.name == "Listen", f"{method.full_name} hung"
            return error.code()
        return grpc.StatusCode.OK

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.call()


@pytest.fixture
def fuzz(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller], caplog: pytest.LogCaptureFixture
) -> Iterator[Fuzz]:
    seed = int(os.environ.get("BUCKETFS_FUZZ_SEED") or time.time_ns() % 2**32)
    server = start_hub(account_bytes_max=50_000_000, threads_per_owner_max=500)
    fuzz = Fuzz(server, dial(server.address), seed)
    with caplog.at_level(logging.INFO):
        yield fuzz
    bad = [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not bad, f"seed {seed}: {bad}\n{caplog.text}"
    # It still works.
    user = BucketUser.with_new_thread(sign_up(fuzz.bare, "afterwards"))
    key = user.create().root.key
    user.push(key, "f", b"content")
    assert user.pull(key, "f") == b"content"


def test_nonsense_queries() -> None:
    """A malformed query would crash a call of the Hub, or return what is not in the collection."""
    seed = int(os.environ.get("BUCKETFS_FUZZ_SEED") or time.time_ns() % 2**32)
    chance = random.Random(seed)
    instances: list[dict[str, Any]] = [
        {"_id": "a", "name": "x", "metadata": {"d": 1}, "a": {"b": 2.0}},
        {"_id": "b", "name": True, "metadata": None, "a": {"b": "y"}},
    ]
    for _ in range(5000):
        asked = nonsense_query(chance)
        try:
            found = select(asked, instances)
        except InvalidArgument:
            continue
        assert all(one in instances for one in found), f"seed {seed}: {asked!r}"


def test_nonsense(fuzz: Fuzz) -> None:
    """Malformed calls would crash the Hub, or get in without credentials."""
    fuzz.run(SHORT_S)
    while fuzz.calls <= 200:  # a busy machine makes fewer calls in that time
        fuzz.run(1.0)
    assert fuzz.went_well > 10, "all of it was refused at the door"


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_nonsense_for_long(fuzz: Fuzz) -> None:
    """The same for minutes: a rare malformed call would crash the Hub."""
    fuzz.run(LONG_S)
