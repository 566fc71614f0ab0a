"""A real hub in a folder of its own, and a bare client for it that knows nothing but descriptors and headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory

from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.metadata import Metadata
from bucketfs.hub.tables import sqlite_url
from bucketfs.wire import hub_pb2

VECTORS = Path(__file__).parents[1] / "vectors"
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Caller:
    """Calls by full service name. ``headers`` go along with each; grpc errors come out as they are."""

    channel: Any
    headers: dict[str, str] = field(default_factory=dict)

    def using(self, **headers: str) -> Caller:
        """The same channel with more headers: ``using(x_textile_thread="…")``. An empty value takes one away."""
        merged = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return replace(self, headers={name: value for name, value in merged.items() if value})

    def start(self, service: str, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The call itself: a future of a reply, or an iterator of replies."""
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
        streams = (described.client_streaming, described.server_streaming)
        names = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}
        make = getattr(self.channel, names.get(streams, "stream_stream"))
        stub = make(
            f"/{service}/{method}",
            request_serializer=message_factory.GetMessageClass(described.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        start = stub if described.server_streaming else stub.future
        return start(request, metadata=tuple(self.headers.items()), timeout=timeout_s)

    def call(self, service: str, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The reply, or the list of replies."""
        answer = self.start(service, method, request, timeout_s)
        streamed = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method].server_streaming
        return list(answer) if streamed else answer.result()

    def refused(self, service: str, method: str, request: Any) -> tuple[str, str]:
        """Code name and text of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(service, method, request)
        return caught.value.code().name, caught.value.details()


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / "hub-auth.json").read_text())
    return found


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Metadata]:
    opened = Metadata(sqlite_url(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., HubServer]]:
    """Starts hubs over ``tmp_path/hub`` (or another ``data``); all are stopped at the end."""
    running: list[HubServer] = []

    def start(**settings: Any) -> HubServer:
        usual = {"data": tmp_path / "hub", "listen": "127.0.0.1:0", "auto_confirm": True, "gateway_listen": ""}
        settings = {**usual, **settings}
        server = HubServer(HubConfig(**settings))
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop(0)


@pytest.fixture
def hub_server(start_hub: Callable[..., HubServer]) -> HubServer:
    """A hub on a loopback port that confirms sign-ups by itself."""
    return start_hub()


@pytest.fixture
def dial() -> Iterator[Callable[[str], Caller]]:
    """A bare client of an address."""
    channels: list[Any] = []

    def connect(address: str) -> Caller:
        channel = grpc.insecure_channel(address)
        channels.append(channel)
        return Caller(channel)

    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture
def caller(hub_server: HubServer, dial: Callable[[str], Caller]) -> Caller:
    """A client of ``hub_server`` without credentials."""
    return dial(hub_server.address)


@pytest.fixture
def sign_up(caller: Caller) -> Callable[..., Caller]:
    """Makes a developer and returns a client with its session."""

    def make(username: str, email: str = "") -> Caller:
        request = hub_pb2.SignupRequest(username=username, email=email or f"{username}@example.org")
        return caller.using(x_textile_session=caller.call("api.hubd.pb.APIService", "Signup", request).session)

    return make


@pytest.fixture
def alice(sign_up: Callable[..., Caller]) -> Caller:
    return sign_up("alice")


@pytest.fixture
def bob(sign_up: Callable[..., Caller]) -> Caller:
    return sign_up("bob")
