"""A second, independent client of a Hub: raw gRPC from the descriptors, and nothing of ``bucketfs`` but the messages.

It knows what the protocol says and nothing of how bucketfs says it: headers, signature and identifiers are put together here
again from their definitions, so that an error of the client room cannot cancel out against the same error of the Hub.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message_factory import GetMessageClass

from bucketfs.wire import blocks_pb2, buckets_pb2, hub_pb2, threads_pb2, users_pb2

CHUNK_BYTES = 1000
"""What one message of a push carries; the JavaScript client sends at most 1,024."""


def base32(data: bytes) -> str:
    """Multibase base32: ``b`` and RFC 4648 in lower case without padding."""
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def unbase32(text: str) -> bytes:
    digits = text[1:].upper()
    return base64.b32decode(digits + "=" * (-len(digits) % 8))


def raw_cid(data: bytes) -> bytes:
    """The CIDv1 (raw, sha2-256) of a block."""
    return bytes((0x01, 0x55, 0x12, 0x20)) + hashlib.sha256(data).digest()


def signature(secret: str, message: str) -> str:
    """The API signature over a date: HMAC-SHA256 with the decoded secret as key."""
    return base32(hmac.new(unbase32(secret), message.encode(), hashlib.sha256).digest())


@dataclass
class PlainClient:
    """One connection with one set of headers. Errors are ``grpc.RpcError``, untranslated."""

    target: str
    api_key: str = ""
    api_secret: str = ""
    session: str = ""
    thread: str = ""
    lifetime: timedelta = timedelta(minutes=30)
    _channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()

    def headers(self) -> list[tuple[str, str]]:
        found = []
        if self.session:
            found.append(("x-textile-session", self.session))
        if self.api_key:
            found.append(("x-textile-api-key", self.api_key))
        if self.api_secret:
            until = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
            found.append(("x-textile-api-sig-msg", until))
            found.append(("x-textile-api-sig", signature(self.api_secret, until)))
        if self.thread:
            found.append(("x-textile-thread", self.thread))
        return found

    def call(self, file: Any, service: str, method: str, request: Any, *, timeout_s: float = 30) -> Any:
        """One call by name. ``request`` is a message, or an iterator of them where the client streams.

        A streamed answer comes back as a list.
        """
        descriptor = file.DESCRIPTOR.services_by_name[service].methods_by_name[method]
        kinds = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }
        stub = kinds[descriptor.client_streaming, descriptor.server_streaming](
            f"/{descriptor.containing_service.full_name}/{method}",
            request_serializer=GetMessageClass(descriptor.input_type).SerializeToString,
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        answer = stub(request, metadata=self.headers(), timeout=timeout_s)
        return list(answer) if descriptor.server_streaming else answer

    # Accounts

    def signup(self, username: str, email: str) -> str:
        """A new developer account; its session is used from here on."""
        self.session = self.call(
            hub_pb2, "APIService", "Signup", hub_pb2.SignupRequest(username=username, email=email)
        ).session
        return self.session

    def new_key(self, *, secure: bool = True) -> tuple[str, str]:
        """A new account key of the session's account, as (key, secret)."""
        request = hub_pb2.CreateKeyRequest(type=hub_pb2.KEY_TYPE_ACCOUNT, secure=secure)
        made = self.call(hub_pb2, "APIService", "CreateKey", request).key_info
        return made.key, made.secret

    def listening(self, key: str) -> Any:
        """Changes of one bucket of the client's thread, as they come, until the answer is cancelled. The Hub has heard of it
        when this returns."""
        method = threads_pb2.DESCRIPTOR.services_by_name["API"].methods_by_name["Listen"]
        stub = self._channel.unary_stream(
            f"/{method.containing_service.full_name}/Listen",
            request_serializer=threads_pb2.ListenRequest.SerializeToString,
            response_deserializer=threads_pb2.ListenReply.FromString,
        )
        chosen = threads_pb2.ListenRequest.Filter(collectionName="buckets", instanceID=key)
        answer = stub(threads_pb2.ListenRequest(dbID=unbase32(self.thread), filters=[chosen]), metadata=self.headers())
        answer.initial_metadata()
        return answer

    # Threads and buckets

    def threads(self) -> dict[str, str]:
        """The account's threads: name → text of its ID."""
        listed = self.call(users_pb2, "APIService", "ListThreads", users_pb2.ListThreadsRequest())
        return {thread.name: base32(thread.id) for thread in listed.list}

    def new_thread(self, name: str) -> str:
        identifier = bytes((1, 0x55)) + os.urandom(32)
        before, self.thread = self.thread, ""
        try:
            # The name travels in a header of its own, the ID in the message.
            descriptor = threads_pb2.DESCRIPTOR.services_by_name["API"].methods_by_name["NewDB"]
            stub = self._channel.unary_unary(
                f"/{descriptor.containing_service.full_name}/NewDB",
                request_serializer=threads_pb2.NewDBRequest.SerializeToString,
                response_deserializer=threads_pb2.NewDBReply.FromString,
            )
            stub(
                threads_pb2.NewDBRequest(dbID=identifier, name=name),
                metadata=[*self.headers(), ("x-textile-thread-name", name)],
                timeout=30,
            )
        finally:
            self.thread = before
        return base32(identifier)

    def bucket(self, method: str, request: Any, **options: Any) -> Any:
        return self.call(buckets_pb2, "APIService", method, request, **options)

    def buckets(self) -> dict[str, Any]:
        """name → Root, of all threads of the account. Leaves the client in the thread of the last."""
        found = {}
        for thread in self.threads().values():
            self.thread = thread
            for root in self.bucket("List", buckets_pb2.ListRequest()).roots:
                found[root.name] = root
        return found

    def enter(self, name: str) -> str:
        """Go to the thread of a bucket; returns the bucket's key."""
        root = self.buckets()[name]
        self.thread = root.thread
        return str(root.key)

    def list_path(self, key: str, path: str) -> Any:
        return self.bucket("ListPath", buckets_pb2.ListPathRequest(key=key, path=path)).item

    def pull_path(self, key: str, path: str) -> bytes:
        pieces = self.bucket("PullPath", buckets_pb2.PullPathRequest(key=key, path=path), timeout_s=120)
        assert all(len(piece.chunk) <= 32768 for piece in pieces), "a longer message than the protocol allows"
        return b"".join(piece.chunk for piece in pieces)

    def walk(self, key: str, path: str = "") -> Iterator[tuple[str, Any]]:
        """Every file and directory below ``path`` as (path, item), one ListPath per directory."""
        for item in self.list_path(key, path).items:
            below = f"{path}/{item.name}".lstrip("/")
            yield below, item
            if item.is_dir:
                yield from self.walk(key, below)

    def push_paths(self, key: str, files: dict[str, bytes], *, root: str = "") -> Any:
        """Push files in one call; returns the last answer, whose root is the bucket's new one."""

        def messages() -> Iterator[Any]:
            header = buckets_pb2.PushPathsRequest.Header(key=key, root=root, paths=list(files))
            yield buckets_pb2.PushPathsRequest(header=header)
            for path, data in files.items():
                for piece in [*_pieces(data), b""]:
                    chunk = buckets_pb2.PushPathsRequest.Chunk(path=path, data=piece)
                    yield buckets_pb2.PushPathsRequest(chunk=chunk)

        return self.bucket("PushPaths", messages(), timeout_s=120)[-1]

    def remove_path(self, key: str, path: str) -> Any:
        return self.bucket("RemovePath", buckets_pb2.RemovePathRequest(key=key, path=path))

    # Blocks

    def put_blocks(self, blocks: Iterable[tuple[bytes, bytes]]) -> Any:
        message = blocks_pb2.PutRequest(blocks=[blocks_pb2.Block(cid=cid, data=data) for cid, data in blocks])
        return self.call(blocks_pb2, "Blocks", "Put", iter([message]))

    def get_blocks(self, cids: Iterable[bytes]) -> dict[bytes, bytes | None]:
        answers = self.call(blocks_pb2, "Blocks", "Get", blocks_pb2.GetRequest(cids=list(cids)))
        return {block.cid: None if block.missing else block.data for answer in answers for block in answer.blocks}


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
