"""A gRPC server small enough to be written into each test: what the channel meets is real gRPC over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from bucketfs.client import Channel, Connection, Credentials, Endpoint, HubClient, connect
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import KeyType

Handler = Callable[[Any, grpc.ServicerContext], Any]


class TinyHub:
    """Serves what ``serve`` is given, on a socket; notes the metadata of the calls."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/hub.sock"
        self.metadata: list[dict[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_insecure_port(self.address)
        self._server.start()

    def serve(self, service: ServiceDescriptor, **handlers: Handler) -> None:
        table = {name: self._handler(service.methods_by_name[name], handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, table),))

    def channel(self, credentials: Credentials | None = None, timeout_s: float = 5.0) -> Channel:
        return Channel(Endpoint.parse(self.address), lambda: credentials or Credentials(), timeout_s)

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _handler(self, method: MethodDescriptor, handler: Handler) -> Any:
        def noted(request: Any, context: grpc.ServicerContext) -> Any:
            self.metadata.append({str(item.key): str(item.value) for item in context.invocation_metadata()})
            return handler(request, context)

        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(noted, GetMessageClass(method.input_type).FromString, lambda message: message.SerializeToString())


@pytest.fixture
def tiny_hub(tmp_path: Path) -> Iterator[TinyHub]:
    hub = TinyHub(tmp_path)
    yield hub
    hub.stop()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """The real Hub, on a socket, with sign-ups that need no mail."""
    config = HubConfig(tmp_path / "hub", f"unix:{tmp_path}/real.sock", auto_confirm=True, gateway_url="http://gateway.test")
    server = HubServer(config)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
async def developer(hub: HubServer) -> Credentials:
    """A developer's account key, which signs."""
    endpoint = Endpoint.parse(hub.address)
    async with Channel(endpoint, Credentials) as channel:
        session = await HubClient(channel).signup("alice", "alice@example.org")
    async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
        key = await HubClient(channel).create_key(KeyType.ACCOUNT, secure=True)
    return Credentials(api_key=key.key, api_secret=key.secret)


@pytest.fixture
async def connection(hub: HubServer, developer: Credentials) -> AsyncIterator[Connection]:
    """A developer's connection to the real Hub."""
    async with connect(Endpoint.parse(hub.address), lambda: developer) as connected:
        yield connected
