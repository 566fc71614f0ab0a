"""A real hub in a folder of its own, and a bare client for it that knows nothing but descriptors and headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller

from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.wire import hub_pb2

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / "hub-auth.json").read_text())
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[HubDatabase]:
    opened = HubDatabase(sqlite_url(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., HubServer]]:
    """Starts hubs over ``tmp_path/hub`` (or another ``data``); all are stopped at the end."""
    running: list[HubServer] = []

    def start(**settings: Any) -> HubServer:
        usual = {"data": tmp_path / "hub", "listen": "127.0.0.1:0", "auto_confirm": True, "gateway_listen": ""}
        settings = {**usual, "gateway_url": "http://127.0.0.1:8006", **settings}
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
