"""The public API against a real Hub: what a program that never mounts relies on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
from support.plainclient import PlainClient

import bucketfs
from bucketfs.config import CredentialsFile, find_paths
from bucketfs.errors import Exists, InvalidArgument, IsADirectory, NotADirectory, NotFound, Stale, Unsupported
from bucketfs.hub import HubServer

pytestmark = pytest.mark.usefixtures("hub")

LARGE = bytes(number % 251 for number in range(600_000))
MTIME_NS = 1_700_000_000_123_456_789


def test_what_is_written_is_listed_and_read() -> None:
    """A file has the bytes, the mode and the time that it was given; directories on the way are made."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("notes")
        report = bucket.write("a/b/large", LARGE, mode=0o600, mtime_ns=MTIME_NS)
        bucket.write("small", b"milk")
        assert report.files == 1 and report.sent_bytes >= len(LARGE) and report.root
        assert bucket.read("a/b/large") == LARGE
        assert b"".join(bucket.read_chunks("a/b/large")) == LARGE
        assert [(entry.path, entry.kind) for entry in bucket.list()] == [("a", "directory"), ("small", "file")]
        (entry,) = bucket.list("a/b")
        assert (entry.path, entry.size_bytes, entry.mode, entry.mtime_ns) == ("a/b/large", len(LARGE), 0o600, MTIME_NS)
        assert bucket.entry("a/b/large") == entry
        bucket.write("small", b"milk, eggs")
        assert bucket.read("/small") == b"milk, eggs"


def test_what_is_moved_and_removed_is_gone() -> None:
    """Moving and removing are at the Hub when the call returns."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("notes")
        bucket.write("d/f", b"1")
        bucket.move("d/f", "g")
        assert [entry.path for entry in bucket.list()] == ["d", "g"]
        bucket.remove("d")
        assert [entry.path for entry in bucket.list()] == ["g"]
        for missing in ("d", "d/f"):
            with pytest.raises(NotFound):
                bucket.remove(missing)


def test_a_folder_goes_there_and_back(tmp_path: Path) -> None:
    """Files, links, modes and times of a folder are the same after a push and a pull; a second push sends nothing."""
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "in/large").write_bytes(LARGE)
    (source / "link").symlink_to("in/large")
    (source / "in/large").chmod(0o640)
    os.utime(source / "in/large", ns=(MTIME_NS, MTIME_NS))
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("backup")
        first = bucket.push(source, "monday")
        assert (first.files, first.symlinks, first.skipped) == (1, 1, ())
        assert bucket.push(source, "monday").sent_bytes == 0
        assert bucket.entry("monday/link").target == "in/large"
        report = bucket.pull("monday", tmp_path / "back")
        assert report.files == 1
    copied = tmp_path / "back/in/large"
    assert copied.read_bytes() == LARGE
    assert (copied.stat().st_mode & 0o7777, copied.stat().st_mtime_ns) == (0o640, MTIME_NS)
    assert os.readlink(tmp_path / "back/link") == "in/large"


def test_a_pull_that_deletes_leaves_only_the_bucket(tmp_path: Path) -> None:
    """``delete`` makes the local folder what the bucket is; without it what only the folder has stays."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("home")
        bucket.write("f", b"1")
        (tmp_path / "here").mkdir()
        (tmp_path / "here/own").write_text("2")
        bucket.pull("", tmp_path / "here")
        assert sorted(os.listdir(tmp_path / "here")) == ["f", "own"]
        assert bucket.pull("", tmp_path / "here", delete=True).removed == 1
        assert os.listdir(tmp_path / "here") == ["f"]


def test_buckets_are_listed_made_and_destroyed() -> None:
    """Records say what a bucket is; a name is taken once; a destroyed bucket is gone."""
    with bucketfs.open_hub() as hub:
        made = hub.create_bucket("one")
        hub.create_bucket("another")
        assert [record.name for record in hub.buckets()] == ["another", "one"]
        record = made.record()
        assert (record.name, record.key, record.private) == ("one", made.key, False)
        assert record.root.startswith("baf") and record.created_at_ns > 0
        assert hub.bucket(record.key).name == "one"
        assert hub.whoami().startswith("bba")
        with pytest.raises(Exists):
            hub.create_bucket("one")
        hub.destroy_bucket("one")
        assert [record.name for record in hub.buckets()] == ["another"]
        with pytest.raises(NotFound):
            made.record()


def test_a_watch_tells_what_changed() -> None:
    """Every change is told with its path, also to a program that goes on from an earlier root."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("watched")
        begun = bucket.record().root
        updates = bucket.watch()
        bucket.write("d/f", b"1")
        first = next(updates)
        assert [(change.kind, change.path) for change in first.changes if change.path] == [("added", "d")]
        assert (first.previous, first.root) == (begun, bucket.record().root)
        bucket.move("d/f", "d/g")
        second = next(updates)
        assert ("renamed", "d/g", "d/f") in [(change.kind, change.path, change.old_path) for change in second.changes]
        updates.close()
        caught_up = next(bucket.watch(begun))
        assert caught_up.root == second.root and ("added", "d") in [(c.kind, c.path) for c in caught_up.changes]


def test_a_watch_ends_with_the_bucket() -> None:
    """A program that follows a bucket hears that it was destroyed, and does not wait for ever."""
    with bucketfs.open_hub() as hub:
        updates = hub.create_bucket("short-lived").watch()
        hub.destroy_bucket("short-lived")
        with pytest.raises(NotFound):
            next(updates)
        with pytest.raises(StopIteration):
            next(updates)


def test_a_private_bucket_is_read_by_path(hub: HubServer) -> None:
    """What cannot travel by CID is listed, read and removed all the same, and refused where it would need to."""
    keys = CredentialsFile(find_paths(os.environ).credentials_file).profile("default").credentials
    with bucketfs.open_hub() as opened:
        bucket = opened.create_bucket("secret", private=True)
        with PlainClient(hub.address, api_key=keys.api_key, api_secret=keys.api_secret) as plain:
            plain.push_paths(plain.enter("secret"), {"d/f": b"1", "g": b"2"})
        assert [(entry.path, entry.kind) for entry in bucket.list()] == [("d", "directory"), ("g", "file")]
        assert [entry.path for entry in bucket.list("d")] == ["d/f"]
        assert bucket.read("d/f") == b"1" and bucket.entry("g").kind == "file"
        bucket.move("d/f", "h")
        bucket.remove("g")
        assert [entry.path for entry in bucket.list()] == ["d", "h"]
        with pytest.raises(IsADirectory):
            bucket.read("d")
        with pytest.raises(NotADirectory):
            bucket.list("h")
        with pytest.raises(Unsupported):
            bucket.write("f", b"1")


def test_mistakes_are_plain_errors() -> None:
    """A mistake of the caller is one of our errors, and changes nothing."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("notes")
        bucket.write("d/f", b"1")
        for wrong, work in (
            (NotFound, lambda: hub.bucket("nowhere")),
            (NotFound, lambda: bucket.read("nothing")),
            (IsADirectory, lambda: bucket.read("d")),
            (NotADirectory, lambda: bucket.list("d/f")),
            (InvalidArgument, lambda: bucket.write("", b"")),
            (InvalidArgument, lambda: bucket.read("../f")),
            (InvalidArgument, lambda: bucket.remove("")),
            (InvalidArgument, lambda: bucket.move("", "x")),
            (InvalidArgument, lambda: bucket.move("d/f", "/")),
            (IsADirectory, lambda: bucket.write("d", b"over a directory")),
        ):
            with pytest.raises(wrong):
                work()
        assert bucket.read("d/f") == b"1"
    with pytest.raises(Stale):
        bucket.read("d/f")
    with pytest.raises(NotFound), bucketfs.open_hub(profile="nobody"):
        pass
    with pytest.raises(ZeroDivisionError), bucketfs.open_hub():
        _ = 1 / 0


def test_threads_share_a_hub() -> None:
    """Several threads of a program use one open Hub at a time."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("shared")
        bucket.write("f", LARGE)
        found: list[bool] = []
        threads = [threading.Thread(target=lambda: found.append(bucket.read("f") == LARGE)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 4


def test_the_async_form() -> None:
    """The same in a trio program; an error of the caller's own block comes out as it is."""

    async def work() -> None:
        async with bucketfs.open_hub_async() as hub:
            bucket = await hub.create_bucket("async")
            async with bucket.watch() as updates:
                await bucket.write("f", b"1")
                async for update in updates:
                    assert [change.path for change in update.changes if change.path] == ["f"]
                    break
            assert await bucket.read("f") == b"1"
            with pytest.raises(ZeroDivisionError):
                async with bucket.watch():
                    _ = 1 / 0

    trio.run(work)


def test_a_hub_is_opened_by_its_address(hub: HubServer) -> None:
    """An address and keys from the environment do as well as a profile; a wrong address is told as such."""
    with bucketfs.open_hub(hub.address) as opened:
        assert opened.buckets() == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    """``import bucketfs`` is in every command's start, and most need no gRPC."""
    code = "import bucketfs, sys; print(sorted({'grpc', 'trio', 'cryptography'} & set(sys.modules)), bucketfs.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", bucketfs.__version__]


def test_the_package_exports_what_the_api_does() -> None:
    """``bucketfs.X`` is ``bucketfs.api.X``, and nothing else can be had."""
    from bucketfs import api

    assert set(bucketfs.__all__) == {*api.__all__, "BucketfsError", "__version__"}
    for name in api.__all__:
        assert getattr(bucketfs, name) is getattr(api, name)
    with pytest.raises(AttributeError):
        bucketfs.no_such_thing  # noqa: B018
