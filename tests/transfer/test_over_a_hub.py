"""Folders to and from the real Hub: what crosses the wire, and how often."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bucketfs.client import BucketInfo, Channel, Connection, Credentials, Endpoint, HubClient, connect
from bucketfs.dag import cid_of
from bucketfs.hub import HubConfig, HubServer
from bucketfs.remote import NativeRemote
from bucketfs.transfer import PushOptions, pull_folder, push_folder

MIB = 1 << 20


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    with HubServer(HubConfig(data=tmp_path / "hub", listen=f"unix:{tmp_path}/hub.sock", auto_confirm=True)) as server:
        endpoint = Endpoint.parse(server.address)
        async with Channel(endpoint, Credentials) as channel:
            session = await HubClient(channel).signup("alice", "alice@example.org")
        async with connect(endpoint, lambda: Credentials(session=session)) as connected:
            yield connected


@pytest.fixture
async def bucket(connection: Connection) -> BucketInfo:
    return await connection.buckets.create("one")


@pytest.fixture
def remote(connection: Connection, bucket: BucketInfo) -> NativeRemote:
    return NativeRemote(connection.blocks, connection.buckets, bucket.thread, bucket.key)


def calls(connection: Connection) -> dict[str, int]:
    """Calls by method since the last time."""
    counted = {key.rpartition("/")[2]: count for key, count in connection.channel.counts.items()}
    connection.channel.counts.clear()
    return counted


async def test_no_call_per_file(connection: Connection, remote: NativeRemote, tmp_path: Path) -> None:
    """A thousand small files must not take a thousand round trips."""
    top = tmp_path / "many"
    for folder in range(10):
        (top / f"d{folder}").mkdir(parents=True)
        for file in range(100):
            (top / f"d{folder}/f{file}").write_bytes(b"%d/%d" % (folder, file))
    calls(connection)
    pushed = await push_folder(remote, top)
    assert (pushed.files, pushed.folders) == (1000, 11)
    assert sum(calls(connection).values()) < 10
    (top / "d3/f50").write_text("changed")
    await push_folder(remote, top)
    assert sum(calls(connection).values()) < 10
    pulled = await pull_folder(remote, tmp_path / "back")
    assert pulled.files == 1000
    assert sum(calls(connection).values()) < 20
    assert (tmp_path / "back/d3/f50").read_text() == "changed"
    assert (tmp_path / "back/d9/f99").read_bytes() == b"9/99"


async def test_the_hub_keeps_its_seed_and_shows_the_files(
    connection: Connection, bucket: BucketInfo, remote: NativeRemote, tmp_path: Path
) -> None:
    """The pushed files are in the bucket, and what is the Hub's own stays."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "hello").write_text("hello")
    await push_folder(remote, top, options=PushOptions(delete=True))
    item, _ = await connection.buckets.list_path(bucket.key)
    assert [child.name for child in item.items] == [".textileseed", "hello"]
    assert b"".join([chunk async for chunk in connection.buckets.pull_path(bucket.key, "hello")]) == b"hello"


async def test_a_large_file_needs_little_memory(remote: NativeRemote, tmp_path: Path) -> None:
    """Neither way holds more than some windows of it. (gRPC's own buffers are not seen by this measure.)"""
    size = 128 * MIB
    wanted = hashlib.sha256()
    with (tmp_path / "large").open("wb") as file:
        for _ in range(size // MIB):
            file.write(data := os.urandom(MIB))
            wanted.update(data)
    tracemalloc.start()
    try:
        await push_folder(remote, tmp_path / "large", (b"large",))
        await pull_folder(remote, tmp_path / "back", (b"large",))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 96 * MIB
    with (tmp_path / "back").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == wanted.digest()


async def test_blocks_the_hub_has_from_elsewhere_are_not_sent(
    connection: Connection, remote: NativeRemote, tmp_path: Path
) -> None:
    """Bytes that the Hub has already cost no upload."""
    data = os.urandom(4 * MIB)
    (tmp_path / "one").write_bytes(data)
    first = await push_folder(remote, tmp_path / "one", (b"one",))
    assert first.sent.bytes_sent > 4 * MIB
    other = await connection.buckets.create("two")
    (tmp_path / "copy").write_bytes(data)
    second = await push_folder(
        NativeRemote(connection.blocks, connection.buckets, other.thread, other.key), tmp_path / "copy", (b"copy",)
    )
    assert second.sent.bytes_sent < MIB
    assert await connection.blocks.missing([cid_of(data[:262144])]) == set()
