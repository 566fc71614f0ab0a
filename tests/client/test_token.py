"""A user's token: got by itself, kept, and got anew when the Hub no longer accepts it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from bucketfs.client import Connection, Credentials, Endpoint, KeyInfo, connect
from bucketfs.errors import Unauthenticated
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import Identity, KeyType
from bucketfs.types import ThreadId


@pytest.fixture
async def key(connection: Connection) -> AsyncIterator[KeyInfo]:
    """A user group key of the developer."""
    yield await connection.hub.create_key(KeyType.USER, secure=True)


def user_of(key: KeyInfo) -> Credentials:
    return Credentials(api_key=key.key, api_secret=key.secret, identity=Identity.generate().private_key)


def tokens_asked_for(connection: Connection) -> int:
    return connection.channel.counts["threads.pb.API/GetToken"]


async def test_one_token_for_all_calls(hub: HubServer, key: KeyInfo) -> None:
    """Calls that begin together get one token, not one each."""
    user = user_of(key)
    async with connect(Endpoint.parse(hub.address), lambda: user, recalled=ThreadId(b"\x01\x55" + bytes(32))) as connection:
        assert tokens_asked_for(connection) == 0
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(connection.users.threads)
        assert await connection.blocks.get([]) == {}
        assert tokens_asked_for(connection) == 1


async def test_another_token_when_the_hub_has_another_host_key(hub: HubServer, key: KeyInfo, tmp_path: Path) -> None:
    """A running mount survives that the Hub lost its host key."""
    user = user_of(key)
    async with connect(Endpoint.parse(hub.address), lambda: user) as connection:
        made = await connection.buckets.create("mine")
        hub.stop(0)
        with sqlite3.connect(tmp_path / "hub/hub.sqlite") as database:
            database.execute("update settings set value = ? where name = 'host_seed'", (bytes(range(32)),))
        database.close()
        again = HubServer(HubConfig(data=tmp_path / "hub", listen=hub.address, auto_confirm=True))
        again.start()
        try:
            asked = tokens_asked_for(connection)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(connection.buckets.root, made.key)
            assert tokens_asked_for(connection) > asked
            assert [info.key for info in (await connection.blocks.holdings()).buckets] == [made.key]
        finally:
            again.stop(0)


async def test_a_key_that_ended_is_named_and_another_one_helps(hub: HubServer, connection: Connection, key: KeyInfo) -> None:
    """A user whose key was invalidated reads so, and goes on with another one."""
    current = user_of(key)
    async with connect(Endpoint.parse(hub.address), lambda: current) as theirs:
        await theirs.buckets.create("mine")
        await connection.hub.invalidate_key(key.key)
        with pytest.raises(Unauthenticated, match="API key not found or is invalid"):
            await theirs.users.threads()
        other = await connection.hub.create_key(KeyType.USER, secure=True)
        current = Credentials(api_key=other.key, api_secret=other.secret, identity=current.identity)
        assert [info.name for info in await theirs.buckets.list()] == ["mine"]
