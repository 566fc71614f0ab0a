"""Credentials as their holders make them: keys, signatures and tokens, for a bare client of a Hub."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Any

from support.bareclient import Caller

from bucketfs.dag import multibase_encode
from bucketfs.keys import Identity, api_signature
from bucketfs.wire import hub_pb2, threads_pb2

HUB = "api.hubd.pb.APIService"
THREADS = "threads.pb.API"
ACCOUNT, USER = 1, 2
FAR_DATE = "2999-01-01T00:00:00Z"


@dataclass(frozen=True)
class ApiKey:
    """A key and its secret."""

    key: str
    secret: str

    def headers(self, date: str = FAR_DATE) -> dict[str, str]:
        """The headers of a signed call, for ``Caller.using``."""
        signature = multibase_encode(api_signature(self.secret, date))
        return {"x_textile_api_key": self.key, "x_textile_api_sig": signature, "x_textile_api_sig_msg": date}


def sign_up(bare: Caller, name: str) -> Caller:
    """A client with the session of a new developer."""
    request = hub_pb2.SignupRequest(username=name, email=f"{name}@example.org")
    return bare.using(x_textile_session=bare.call(HUB, "Signup", request).session)


def make_key(owner: Any, kind: int = ACCOUNT, *, secure: bool = True) -> ApiKey:
    """A new key of whoever ``owner`` acts as."""
    request = hub_pb2.CreateKeyRequest(type=hub_pb2.KeyType.Name(kind), secure=secure)
    info = owner.call(HUB, "CreateKey", request).key_info
    return ApiKey(info.key, info.secret)


def invalidate(owner: Any, key: ApiKey) -> None:
    """The end of a key."""
    owner.call(HUB, "InvalidateKey", hub_pb2.InvalidateKeyRequest(key=key.key))


def get_token(client: Any, identity: Identity) -> str:
    """A token for an identity, by the challenge; ``client`` has a key or a session."""
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    replies = client.start(THREADS, "GetToken", iter(outgoing.get, None))
    outgoing.put(threads_pb2.GetTokenRequest(key=identity.public_key))
    challenge = next(replies).challenge
    outgoing.put(threads_pb2.GetTokenRequest(signature=identity.sign(challenge)))
    token: str = next(replies).token
    outgoing.put(None)
    assert list(replies) == []
    return token


def as_user(client: Any, identity: Identity) -> Any:
    """``client``, which has a user group key, with the token of an identity."""
    return client.using(authorization=f"bearer {get_token(client, identity)}")
