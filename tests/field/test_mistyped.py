"""What people mistype: names that no bucket can have, places that are not there, keys with a letter too few.

Each is one line in words of ours. What a Hub's database, IPFS or gRPC say of it is for ``-v``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from support.home import Home, Mounted
from support.plainclient import PlainClient
from support.served import Account, ServedHub
from support.waiting import eventually

from bucketfs.wire import buckets_pb2 as pb

FOREIGN = (
    "mongo",
    "multibase",
    "no link",
    "bafy",
    "rpc error",
    "grpc",
    "instance not found",
    "E11000",
    "ipv4:",
    "last error",
)
WRONG = ["..", ".", "a/b", "two\nlines", "esc\x1b[2J", "nul-like\x7f", "x" * 300, "漢" * 100]


@dataclass
class World:
    home: Home
    hub: ServedHub
    account: Account


@pytest.fixture
def world(home: Home) -> Iterator[World]:
    with ServedHub(home, home.data / "served") as hub:
        account = hub.account("ann")
        home.extra.update(account.variables())
        home.cli("buck", "create", "b")
        yield World(home, hub, account)


def names_at(plain: PlainClient) -> set[str]:
    return set(plain.buckets())


def test_names_no_bucket_can_have(world: World) -> None:
    """A bucket with a name that breaks terminals or paths could be made, by one of three ways."""
    for name in ["", *WRONG]:
        said = world.home.complaint("buck", "create", name)
        assert said.startswith("bucketfs: no bucket can be called ") and said.isprintable(), said
    with world.account.plain() as plain:
        plain.enter("b")
        for name in WRONG:
            with pytest.raises(grpc.RpcError) as refused:
                plain.bucket("Create", pb.CreateRequest(name=name))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert names_at(plain) == {"b"}
        # The protocol has buckets without a name; they go by their key.
        plain.bucket("Create", pb.CreateRequest(name=""))
    mounted = world.home.mount()
    for name in ("two\nlines", "esc\x1b[2J"):
        with pytest.raises(OSError) as caught:
            (mounted.path / name).mkdir()
        assert caught.value.errno == errno.EINVAL
    assert "b" in os.listdir(mounted.path) and len(os.listdir(mounted.path)) == 2
    mounted.umount()


def test_places_that_are_not_there(world: World, tmp_path: Path) -> None:
    """A typing mistake would be answered in the words of gRPC, IPFS or a database, or as a bug of ours."""
    home = world.home
    wrong: list[tuple[str | Path, ...]] = [
        ("buck", "ls", "b/none"),
        ("buck", "cat", "b/none/deeper"),
        ("buck", "rm", "b/none"),
        ("buck", "mv", "b/none", "b/other"),
        ("buck", "pull", "b/none", tmp_path / "x"),
        ("buck", "links", "b/none"),
        ("buck", "get", "none"),
        ("buck", "ls", "--thread", "mistyped"),
        ("buck", "ls", "--thread", "bafkmistyped"),
        ("buck", "destroy", "--yes", "none"),
        ("buck", "roles", "grant", "--role", "reader", "b", "notakey"),
        ("mount", "none", home.root / "M"),
    ]
    (home.root / "M").mkdir()
    for words in wrong:
        said = home.complaint(*words)
        assert not any(word in said for word in FOREIGN), said
        assert "bug in bucketfs" not in said, said
    home.extra["BUCKETFS_API_SECRET"] = world.account.secret[:-1] + "!"
    said = home.complaint("buck", "ls")
    assert "secret" in said and not any(word in said for word in FOREIGN), said


def test_a_hub_that_went_away(world: World) -> None:
    """A user whose Hub is down would read gRPC's internals instead of "cannot be reached"."""
    mounted = world.home.mount("--poll=1s", "b")
    world.hub.kill()
    (mounted.path / "a").write_text("x")
    eventually(lambda: "cannot be reached" in status_of(mounted), "the Hub is not missed")
    said = status_of(mounted)
    assert not any(word in said for word in FOREIGN), said
    complaint = world.home.complaint("buck", "ls")
    assert "it cannot be reached (connection refused)" in complaint
    assert not any(word in complaint for word in FOREIGN), complaint
    mounted.kill()


def status_of(mounted: Mounted) -> str:
    """Without the roots and keys, which are CIDs by right."""
    document = mounted.status()
    buckets = document["buckets"]
    return "\n".join(str(one) for one in [document["connection"]["error"], document["error"], *(b["hint"] for b in buckets)])
