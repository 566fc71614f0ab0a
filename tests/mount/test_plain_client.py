"""What the mount wrote is read back by a second, independent client, and what that client pushes is seen in the mount."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from support import trees
from support.home import CHECKOUT, Home, Mounted
from support.plainclient import PlainClient, raw_cid
from support.served import Account, ServedHub
from support.waiting import eventually

from bucketfs.wire import buckets_pb2


@pytest.fixture(scope="module")
def served(new_home: Callable[..., Home]) -> Iterator[tuple[ServedHub, Account, Mounted]]:
    home = new_home()
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("alice")
        home.extra.update(account.variables())
        mount = home.mount()
        (mount.path / "shared").mkdir()
        mount.sync()
        yield hub, account, mount
        mount.umount()


@pytest.fixture
def plain(served: tuple[ServedHub, Account, Mounted]) -> Iterator[PlainClient]:
    with served[1].plain() as client:
        yield client


@pytest.fixture
def folder(served: tuple[ServedHub, Account, Mounted]) -> Iterator[Path]:
    yield served[2].path / "shared"
    served[2].check_log()


def test_written_by_the_mount_read_by_the_plain_client(
    served: tuple[ServedHub, Account, Mounted], plain: PlainClient, folder: Path, stage: Path
) -> None:
    """Other clients of the Hub read what a mount wrote."""
    source = stage / "for-plain"
    trees.oddities(source)
    for path in sorted(source.rglob("*")):
        target = folder / "w" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(os.readlink(path))
        elif path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    served[2].sync()
    key = plain.enter("shared")
    seen = dict(plain.walk(key, "w"))
    wanted = {f"w/{path.relative_to(source)}": path for path in source.rglob("*")}
    assert seen.keys() == wanted.keys()
    for name, path in wanted.items():
        assert seen[name].is_dir == (path.is_dir() and not path.is_symlink()), name
        if path.is_file() and not path.is_symlink():
            assert plain.pull_path(key, name) == path.read_bytes(), name


def test_pushed_by_the_plain_client_seen_in_the_mount(
    served: tuple[ServedHub, Account, Mounted], plain: PlainClient, folder: Path
) -> None:
    """What another client pushes appears in the mount."""
    key = plain.enter("shared")
    files = {"p/small": b"hello\n", "p/deep/er/big": random.Random(5).randbytes(601_545), "p/empty": b""}
    plain.push_paths(key, files)
    eventually(lambda: (folder / "p/deep/er/big").exists() and (folder / "p/empty").exists(), "pushed files do not appear")
    for name, data in files.items():
        assert (folder / name).read_bytes() == data
    assert (folder / "p/small").stat().st_mode & 0o777 == 0o644
    assert (folder / "p").stat().st_mode & 0o777 == 0o755
    # A change of what was read already: the new bytes, never the cached old ones.
    plain.push_paths(key, {"p/small": b"hello again\n"})
    eventually(lambda: (folder / "p/small").stat().st_size == 12, "a changed file shows its old length")
    assert (folder / "p/small").read_bytes() == b"hello again\n"
    plain.remove_path(key, "p/deep")
    eventually(lambda: not (folder / "p/deep").exists(), "a removed folder is still there")
    assert sorted(os.listdir(folder / "p")) == ["empty", "small"]


def test_both_write_at_once_and_nothing_is_lost(
    served: tuple[ServedHub, Account, Mounted], plain: PlainClient, folder: Path
) -> None:
    """A mount and another client that write at once lose nothing."""
    key = plain.enter("shared")
    (folder / "both").mkdir()
    served[2].sync()
    for number in range(5):
        (folder / f"both/mount {number}").write_text(f"m{number}")
        plain.push_paths(key, {f"both/plain {number}": b"p%d" % number})
    served[2].sync()
    names = [f"{who} {number}" for who in ("mount", "plain") for number in range(5)]
    eventually(lambda: sorted(os.listdir(folder / "both")) == sorted(names), "files of one of the two are missing")
    assert sorted(item.name for item in plain.list_path(key, "both").items) == sorted(names)


TREES = {
    'ten files f0..f9, content "file N\\n"': {f"f{number}": b"file %d\n" % number for number in range(10)},
    "names that are prefixes of one another: a, a.txt, a-b, aa (contents 1, 2, 3, 4)": {
        "a": b"1",
        "a.txt": b"2",
        "a-b": b"3",
        "aa": b"4",
    },
}


@pytest.mark.parametrize("name", TREES)
def test_root_of_a_tree_without_attributes(
    served: tuple[ServedHub, Account, Mounted], plain: PlainClient, name: str
) -> None:
    """The plain path makes plain UnixFS: the CID of a tree is the one that other implementations compute for it."""
    vectors = json.loads((CHECKOUT / "tests/vectors/unixfs.json").read_text())
    vector = next(entry for entry in vectors["directories"] if entry["name"] == name)
    key, folder = plain.enter("shared"), f"tree {len(name)}"
    plain.push_paths(key, {f"{folder}/{path}": data for path, data in TREES[name].items()})
    item = plain.list_path(key, folder)
    assert item.cid == vector["root"]
    assert item.size == vector["cumulative_size"]


def test_root_of_a_large_file(served: tuple[ServedHub, Account, Mounted], plain: PlainClient) -> None:
    """A large file has the CID that other IPFS tools give it."""
    data = bytes(index % 251 for index in range(601_545))
    answer = plain.push_paths(plain.enter("shared"), {"vectors/file": data})
    assert answer.cid == "bafybeid6x2iyilnqcr6cq6esxf4yfxk7zumovysms6d5tpkstjpzrxtwb4"
    assert answer.size == 601_703


def test_a_block_that_is_not_what_its_name_says_is_refused(plain: PlainClient) -> None:
    """A client cannot store wrong bytes under a CID."""
    right, wrong = os.urandom(1000), os.urandom(1000)
    with pytest.raises(grpc.RpcError) as refusal:
        plain.put_blocks([(raw_cid(right), right), (raw_cid(wrong), wrong[:-1] + b"!")])
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(plain.get_blocks([raw_cid(right), raw_cid(wrong)]).values()) == {None}, "nothing of that message is stored"


def refused(client: PlainClient) -> tuple[grpc.StatusCode, str]:
    with client, pytest.raises(grpc.RpcError) as refusal:
        client.bucket("List", buckets_pb2.ListRequest())
    return refusal.value.code(), refusal.value.details()


def test_nothing_is_open_without_a_key_and_its_signature(served: tuple[ServedHub, Account, Mounted]) -> None:
    """Buckets are closed to callers without the account's key."""
    account, unauthenticated = served[1], grpc.StatusCode.UNAUTHENTICATED
    target, key, secret = account.address, account.key, account.secret
    other = "b" + "a" * 39
    assert refused(PlainClient(target)) == (unauthenticated, "Session or API key required")
    assert refused(PlainClient(target, api_key=key)) == (unauthenticated, "API key signature required")
    assert refused(PlainClient(target, api_key=key, api_secret=other)) == (unauthenticated, "Bad API key signature")
    expired = PlainClient(target, api_key=key, api_secret=secret, lifetime=timedelta(seconds=-5))
    assert refused(expired) == (unauthenticated, "Bad API key signature")
    unknown = PlainClient(target, api_key="b" + "a" * 26, api_secret=secret)
    assert refused(unknown) == (grpc.StatusCode.NOT_FOUND, "API key not found or is invalid")
    assert refused(PlainClient(target, session="b" + "a" * 71)) == (unauthenticated, "Invalid session")


def test_unknown_thread_and_bucket(plain: PlainClient) -> None:
    """A wrong bucket or path is refused with the texts that other clients know."""
    plain.enter("shared")
    with pytest.raises(grpc.RpcError) as refusal:
        plain.list_path("bafzbei" + "a" * 52, "")
    assert "instance not found" in refusal.value.details()
    with pytest.raises(grpc.RpcError) as refusal:
        plain.pull_path(plain.enter("shared"), "no/such/file.jpg")
    assert 'no link named "no"' in refusal.value.details()
