"""A user with hundreds of buckets mounts them all, under the few open files that the system allows."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.home import Home
from support.served import Account, ServedHub

from bucketfs.wire import buckets_pb2

BUCKETS = 150
WHOLE_BUCKETS = 5000
WRITTEN = 20


def account_with_buckets(hub: ServedHub, count: int) -> Account:
    account = hub.account("collector")
    with account.plain() as client:
        client.thread = client.new_thread("buckets")
        for number in range(count):
            client.bucket("Create", buckets_pb2.CreateRequest(name=f"b{number:04}"))
    return account


def use_them(home: Home, count: int, limit: int) -> None:
    """Mount, list, write to some, sync, mount again and read; all under ``limit`` open files, soft and hard."""
    names = [f"b{number:04}" for number in range(count)]
    used = names[:: max(1, count // WRITTEN)]
    home.wrapper = ("prlimit", f"--nofile={limit}:{limit}")
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(account_with_buckets(hub, count).variables())
        for times in range(2):
            mount = home.mount(timeout_s=120)
            assert sorted(os.listdir(mount.path)) == names
            for name in used:
                file = mount.path / name / "note"
                assert times == 0 or file.read_text() == f"{name} 0"
                file.write_text(f"{name} {times}")
            mount.sync()
            status = mount.status()
            assert status["pending_count"] == 0 and not status["unopened"]
            assert len(status["buckets"]) == count
            assert status["descriptors"]["open"] < limit // 2, "a bucket at rest holds no descriptor"
            reserved = sum(path.stat().st_size for path in home.state.rglob("reserve"))
            assert reserved <= 4 << 20, "room for a full disk is kept once per mount"
            mount.umount()


def test_a_mount_of_more_buckets_than_open_files(home: Home) -> None:
    """A user with hundreds of buckets could not mount them: "too many open files"."""
    use_them(home, BUCKETS, 128)


@pytest.mark.whole
@pytest.mark.timeout(600)
def test_a_mount_of_five_thousand_buckets(home: Home) -> None:
    """The same with 5000 buckets: the mount would not come up, or fail later."""
    use_them(home, WHOLE_BUCKETS, 1024)


def test_the_soft_limit_is_raised_to_the_hard_one(home: Home) -> None:
    """A mount would run out of open files although the system allows more."""
    home.wrapper = ("prlimit", "--nofile=100:3000")
    mount = home.mount()
    assert mount.status()["descriptors"]["limit"] == 3000
    (hub,) = home.pids("serve")
    limits = Path(f"/proc/{hub}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["3000", "3000"]]
    mount.umount()


def test_many_files_are_open_for_writing_under_a_low_limit(home: Home) -> None:
    """A program with many open files would be refused a write, or lose what it wrote."""
    home.wrapper = ("prlimit", "--nofile=80:80")
    mount = home.mount()
    with ExitStack() as stack:
        files = [stack.enter_context((mount.path / "home" / f"f{number}").open("w")) for number in range(120)]
        for _ in range(2):
            for number, file in enumerate(files):
                file.write(f"{number}\n")
                file.flush()
                os.fsync(file.fileno())
    mount.sync()
    for number in range(120):
        assert (mount.path / "home" / f"f{number}").read_text() == f"{number}\n{number}\n"
    mount.umount()


def test_status_says_when_few_open_files_are_left(home: Home) -> None:
    """A user would not learn, before it hurts, that the limit of open files is low."""
    home.wrapper = ("prlimit", "--nofile=80:80")
    mount = home.mount()
    assert "raise the limit" in home.cli("status", mount.path).stdout
    mount.umount()
