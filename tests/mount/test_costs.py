"""What an operation costs in calls and bytes: the promises about proportion, counted and not timed."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from support.home import Home, Mounted

SERVICE = "bucketfs.v1.Blocks/"


def figures(mount: Mounted) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Calls by method, what was sent, what was fetched, so far."""
    document: dict[str, Any] = mount.status()
    sent = {name: sum(bucket["sent"][name] for bucket in document["buckets"]) for name in ("blocks", "bytes")}
    return document["calls"], sent, document["fetched"]


def test_a_push_makes_no_call_per_file(home: Home) -> None:
    """A push of many files is not slowed by a call for each."""
    mount = home.mount()
    mount.sync()
    calls, _, _ = figures(mount)
    for folder in range(10):
        (mount.path / f"home/{folder}").mkdir()
        for number in range(100):
            (mount.path / f"home/{folder}/{number}").write_bytes(os.urandom(500))
    mount.sync()
    after, _, _ = figures(mount)
    # A push while we write, and one at the sync: a handful of calls each, whatever the number of files.
    for method in ("Put", "Missing", "SwapRoot"):
        assert after.get(SERVICE + method, 0) - calls.get(SERVICE + method, 0) <= 12, method
    assert after.get(SERVICE + "Get", 0) == calls.get(SERVICE + "Get", 0)
    mount.umount()


@pytest.mark.parametrize("size", [20_000_000])
def test_a_small_change_of_a_large_file_sends_its_leaf(home: Home, size: int) -> None:
    """Changing a byte of a large file does not send the file."""
    mount = home.mount()
    big = mount.path / "home/big"
    big.write_bytes(random.Random(3).randbytes(size))
    mount.sync()
    _, sent, _ = figures(mount)
    with big.open("r+b") as file:
        file.seek(9_000_000)
        file.write(b"x" * 4096)
    mount.sync()
    _, after, _ = figures(mount)
    assert after["bytes"] - sent["bytes"] < 2 * 262_144 + 50_000
    mount.umount()


def test_attributes_and_renames_send_no_content(home: Home) -> None:
    """chmod and mv cost no upload."""
    mount = home.mount()
    folder = mount.path / "home/d"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}").write_bytes(os.urandom(200_000))
    mount.sync()
    _, sent, _ = figures(mount)
    for number in range(50):
        os.chmod(folder / f"{number}", 0o600)
        os.utime(folder / f"{number}", ns=(0, number))
    folder.rename(mount.path / "home/e")
    mount.sync()
    _, after, _ = figures(mount)
    assert after["bytes"] - sent["bytes"] < 100_000
    mount.umount()


def test_listing_a_cold_tree_fetches_no_content(home: Home) -> None:
    """ls -R of a bucket does not download it."""
    mount = home.mount()
    for folder in range(5):
        (mount.path / f"home/{folder}").mkdir()
        for number in range(40):
            (mount.path / f"home/{folder}/{number}").write_bytes(os.urandom(100_000))
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    again = home.mount()
    calls, _, fetched = figures(again)
    sizes = [entry.stat().st_size for at, _, names in os.walk(again.path / "home") for entry in map_entries(at, names)]
    assert sizes == [100_000] * 200
    after, _, now = figures(again)
    assert now["bytes"] - fetched["bytes"] < 100_000
    # One for the bucket's root, one for each folder's children.
    assert after[SERVICE + "Get"] - calls.get(SERVICE + "Get", 0) <= 8
    again.umount()


def test_a_cold_tree_is_gone_through_by_name_with_few_calls(home: Home) -> None:
    """As rsync does that compares a tree with one that it does not list."""
    mount = home.mount()
    for folder in range(5):
        (mount.path / f"home/{folder}").mkdir()
        for number in range(200):
            (mount.path / f"home/{folder}/{number:03}").write_bytes(b"%d" % number)
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    again = home.mount()
    calls, _, _ = figures(again)
    sizes = [os.lstat(again.path / f"home/{folder}/{number:03}").st_size for folder in range(5) for number in range(200)]
    assert sizes == [len(str(number)) for number in range(200)] * 5
    after, _, _ = figures(again)
    # While one call looks ahead, lookups that are faster make calls of their own.
    assert after[SERVICE + "Get"] - calls.get(SERVICE + "Get", 0) <= 100
    again.umount()


def test_one_name_of_a_large_folder_is_looked_up_alone(home: Home) -> None:
    """One file of a huge folder is found without reading the folder."""
    mount = home.mount()
    for number in range(200):
        (mount.path / f"home/{number:03}").write_bytes(os.urandom(3000))
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    again = home.mount()
    _, _, fetched = figures(again)
    assert os.lstat(again.path / "home/100").st_size == 3000
    _, _, now = figures(again)
    assert now["blocks"] - fetched["blocks"] <= 3
    again.umount()


def map_entries(at: str, names: list[str]) -> list[os.DirEntry[str]]:
    return [entry for entry in os.scandir(at) if entry.name in names]
