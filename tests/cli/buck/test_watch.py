"""``bucketfs buck watch`` as a user types it, against the real Hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketfs.cli import main
from bucketfs.cli.buck.watch import checked_folder
from bucketfs.config import find_paths, make_private
from bucketfs.daemon.host import MirroredFolder, mirror_closing_ring, registered_mirror
from bucketfs.disk import Disk
from bucketfs.errors import Usage
from bucketfs.hub import HubServer
from bucketfs.mount import Mounted

Run = Callable[..., str]


@pytest.fixture
def run(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``bucketfs buck …``; returns what it printed. ``code`` is the exit code it must have. There is a bucket ``home``."""
    assert main(["buck", "create", "home"]) == 0

    def run(*arguments: str | Path, code: int = 0) -> str:
        capfd.readouterr()
        ended = main(["buck", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert ended == code, out + err
        assert "Traceback" not in err
        if code:
            assert err.startswith("bucketfs: ")
            assert err.count("\n") == 1
            return err
        return out

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "hello").write_text("hello")
    (top / "sub/big").write_bytes(os.urandom(700_000))
    return top


def once(run: Run, top: Path, *options: str) -> dict[str, Any]:
    """The facts of the one round."""
    facts: dict[str, Any] = json.loads(run("watch", "--once", "--json", *options, top, "home").splitlines()[0])
    assert facts["event"] == "round"
    return facts


def test_once_carries_both_ways(run: Run, folder: Path, tmp_path: Path) -> None:
    """`watch --once` would leave new files behind, bring removed ones back, or carry the same ones again and again."""
    assert once(run, folder)["pushed"] == 2
    assert run("ls", "home") == "hello\nsub/\n"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    facts = once(run, other)
    assert (facts["pushed"], facts["written"]) == (1, 3)
    assert (other / "sub/big").read_bytes() == (folder / "sub/big").read_bytes()
    (other / "hello").unlink()
    assert "1 changed at the Hub" in run("watch", "--once", other, "home")
    assert "1 written here, 1 removed here" in run("watch", "--once", folder, "home")
    assert sorted(os.listdir(folder)) == ["mine", "sub"]
    assert "nothing to do" in run("watch", "--once", folder, "home")
    assert once(run, folder)["unchanged"] == 2


def test_one_watches_at_a_time(run: Run, folder: Path) -> None:
    """Two watches of one folder would write over each other's files and notes."""
    once(run, folder)
    (place,) = (find_paths(os.environ).state / "watch").iterdir()
    lock = Disk().lock_file(place / "lock")
    assert "is being watched already" in run("watch", "--once", folder, "home", code=1)
    Disk().close(lock)
    once(run, folder)


def test_a_folder_that_vanished_is_refused(run: Run, folder: Path) -> None:
    """An unplugged disk would be taken for a folder whose files were all removed, and the bucket would be emptied."""
    once(run, folder)
    kept = folder.rename(folder.with_name("unplugged"))
    assert "no such folder" in run("watch", "--once", folder, "home", code=1)
    folder.mkdir()
    assert "--anew" in run("watch", "--once", folder, "home", code=1)
    assert run("ls", "home") == "hello\nsub/\n"
    assert once(run, folder, "--anew")["written"] == 3
    assert (folder / "hello").read_text() == "hello"
    shutil.rmtree(kept)


def test_a_bucket_that_was_replaced_is_refused(run: Run, folder: Path) -> None:
    """Files here would be removed because a new, empty bucket has the name of the former one."""
    once(run, folder)
    run("destroy", "home", "--yes")
    run("create", "home")
    assert "another bucket now" in run("watch", "--once", folder, "home", code=1)
    assert (folder / "hello").exists()
    assert once(run, folder, "--anew")["pushed"] == 2


def test_what_cannot_be_watched(run: Run, folder: Path, tmp_path: Path) -> None:
    """A folder that holds a mount, or our own files, would change for ever while it is mirrored."""
    assert "keeps its own files" in run("watch", "--once", tmp_path, "home", code=2)
    assert "whole bucket" in run("watch", "--once", folder, "home/sub", code=2)
    assert "no bucket 'nowhere'" in run("watch", "--once", folder, "nowhere", code=1)
    run("create", "secret", "--private")
    assert "private" in run("watch", "--once", folder, "secret", code=1)
    mounted = Mounted(folder / "sub", "fuse.bucketfs", "home", "0:99")
    paths = find_paths(os.environ)
    assert checked_folder(folder, paths, mounted=list) == folder
    with pytest.raises(Usage, match="holds the bucketfs mount"):
        checked_folder(folder, paths, mounted=lambda: [mounted])
    with pytest.raises(Usage, match="in a bucketfs mount"):
        checked_folder(folder / "sub", paths, mounted=lambda: [mounted])


def test_a_bucket_is_not_watched_inside_of_itself(run: Run, folder: Path, tmp_path: Path) -> None:
    """A bucket would be copied into itself without end, until the disk or the account is full."""
    run("create", "other")
    keys = {one["name"]: one["key"] for one in json.loads(run("ls", "--json"))}
    paths = find_paths(os.environ)
    link = tmp_path / "link"
    link.symlink_to(folder / "sub")
    elsewhere = make_private(paths.state / "watch/elsewhere")

    def refused(inner: Path, outer: Path, top: Path) -> None:
        assert f"{inner} lies in {outer}, which is being watched too" in run("watch", "--once", top, "home", code=2)
        assert keys.keys() == {"home", "other"} and "sub" not in run("ls", "home")

    with registered_mirror(paths, elsewhere, MirroredFolder(folder, keys["home"])):
        for top in (folder / "sub", link):
            refused(folder / "sub", folder, top)
        run("watch", "--once", folder / "sub", "other")
        mountpoint = make_private(folder / "sub/mount")
        assert main(["mount", "home", str(mountpoint)]) == 2
    with registered_mirror(paths, elsewhere, MirroredFolder(folder / "sub", keys["home"])):
        refused(folder / "sub", folder, folder)
        run("watch", "--once", folder, "other")
    # What one that has ended, in whatever way, has left behind says nothing.
    assert (elsewhere / "watched").read_text()
    once(run, folder / "sub")


def test_rings_of_buckets_that_lie_in_each_other() -> None:
    """Watches that feed each other in a ring would fill the disk; or harmless ones beside each other would be refused."""

    def at(folder: str, bucket: str) -> MirroredFolder:
        return MirroredFolder(Path(folder), bucket)

    ring = at("/b/inner", "one")
    assert mirror_closing_ring(ring, [at("/a", "one"), at("/a/inner", "two"), at("/b", "two")]) == at("/b", "two")
    assert mirror_closing_ring(at("/b/inner", "three"), [at("/a", "one"), at("/a/inner", "two"), at("/b", "two")]) is None
    assert mirror_closing_ring(at("/a", "one"), [at("/ab", "one"), at("/b/a", "one")]) is None
    three = [at("/a", "one"), at("/a/x", "two"), at("/b", "two"), at("/b/x", "three"), at("/c/x", "one")]
    assert mirror_closing_ring(at("/c", "three"), three) == at("/c/x", "one")
    assert mirror_closing_ring(at("/c", "two"), three) == at("/c/x", "one")


def test_what_is_left_out_is_said(run: Run, folder: Path) -> None:
    """A backup job would take a watch that left a file out for a complete one, or the file would stop the others."""
    os.mkfifo(folder / "pipe")
    assert "1 left out, the rest is done" in run("watch", "--once", folder, "home", code=1)
    assert run("cat", "home/hello") == "hello"


def test_with_the_hub_away_once_fails_in_one_line(run: Run, hub: HubServer, folder: Path) -> None:
    """A nightly `watch --once` would hang, or end with success, while the Hub is away."""
    once(run, folder)
    hub.stop(0)
    run("watch", "--once", folder, "home", code=1)


def test_once_ends_when_what_is_large_is_carried_too(run: Run, folder: Path, tmp_path: Path) -> None:
    """`watch --once` would end while a large file is still on its way, and the other side would lack it."""
    data = os.urandom((16 << 20) + 5)
    (folder / "large").write_bytes(data)
    other = tmp_path / "other"
    other.mkdir()
    run("watch", "--once", folder, "home")
    run("watch", "--once", other, "home")
    assert (other / "large").read_bytes() == data
    assert sorted(os.listdir(other)) == ["hello", "large", "sub"]
    assert "nothing to do" in run("watch", "--once", folder, "home")
