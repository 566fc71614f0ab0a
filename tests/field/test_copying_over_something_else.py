"""A user copies a folder where a file stands, or the other way round: refused as cp, mv and rsync do, until it is asked for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.home import Home, program
from support.served import ServedHub


@pytest.fixture
def hub_home(home: Home) -> Iterator[Home]:
    """A home whose commands talk to a Hub that is there already."""
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("writer").variables())
        yield home


def put(home: Home, place: str, text: str) -> None:
    home.cli("buck", "push", "-", place, stdin=text)


def listed(home: Home, place: str) -> list[str]:
    return home.cli("buck", "ls", place).stdout.split()


def test_a_folder_does_not_take_the_place_of_a_file(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "b")
    put(home, "b/doc", "my only copy")
    folder = home.root / "folder"
    (folder / "doc").mkdir(parents=True)
    (folder / "doc/new").write_text("new")
    for place, source in (("b/doc", folder), ("b", folder)):
        assert "is a file in the bucket and a folder here" in home.complaint("buck", "push", source, place)
    assert home.cli("buck", "cat", "b/doc").stdout == "my only copy"
    home.cli("buck", "push", "--delete", folder, "b")
    assert home.cli("buck", "cat", "b/doc/new").stdout == "new"


def test_a_folder_of_the_bucket_does_not_take_the_place_of_a_local_file(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "b")
    put(home, "b/dir/doc/x", "theirs")
    put(home, "b/dir/other", "other")
    mine = home.root / "mine"
    mine.write_text("my only copy")
    assert "a folder in the bucket" in home.complaint("buck", "pull", "b/dir", mine)
    assert mine.read_text() == "my only copy"
    # Below the folder that was asked for, such a path is left out, and the rest is done.
    back, elsewhere = home.root / "back", home.root / "elsewhere"
    back.mkdir()
    elsewhere.mkdir()
    for make in (lambda: (back / "doc").write_text("mine"), lambda: (back / "doc").symlink_to(elsewhere)):
        make()
        done = home.cli("buck", "pull", "b/dir", back, check=False)
        assert done.returncode == 1 and "left out: dir/doc: " in done.stderr
        assert (back / "other").read_text() == "other" and not list(elsewhere.iterdir())
        assert (back / "doc").is_symlink() or (back / "doc").read_text() == "mine"
        (back / "doc").unlink()
    (back / "doc").write_text("mine")
    home.cli("buck", "pull", "--delete", "b/dir", back)
    assert (back / "doc/x").read_text() == "theirs"


def test_mv_replaces_a_file_by_a_file_and_nothing_else(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "b")
    for place in ("b/a", "b/to/a/full", "b/folder/x", "b/to/folder", "b/to/file", "b/file", "b/ab"):
        put(home, place, place)
    before = sorted(listed(home, "b") + listed(home, "b/to"))
    assert "is a folder, and a file would replace it" in home.complaint("buck", "mv", "b/a", "b/to")
    assert "is a file, and a folder would replace it" in home.complaint("buck", "mv", "b/folder", "b/to")
    assert "is a file, and a folder would replace it" in home.complaint("buck", "mv", "b/folder", "b/to/file")
    put(home, "b/into/folder/full", "full")
    assert "not empty" in home.complaint("buck", "mv", "b/folder", "b/into")
    assert "into itself" in home.complaint("buck", "mv", "b/to", "b/to/a")
    assert "no such file" in home.complaint("buck", "mv", "b/nothing", "b/x")
    home.cli("buck", "rm", "-r", "b/into")
    assert sorted(listed(home, "b") + listed(home, "b/to")) == before
    home.cli("buck", "mv", "b/file", "b/to")
    assert home.cli("buck", "cat", "b/to/file").stdout == "b/file"
    home.cli("buck", "mv", "b/ab", "b/a")
    assert home.cli("buck", "cat", "b/a").stdout == "b/ab"
    home.cli("buck", "mv", "b/a", "b/fresh/")
    assert listed(home, "b/fresh/") == ["a"]


def test_mv_is_one_change_of_the_bucket(hub_home: Home) -> None:
    """Also between names of which one begins with the other: another client never sees a third name, nor none."""
    home = hub_home
    home.cli("buck", "create", "b")
    put(home, "b/report", "text")
    events = home.root / "events"
    mount = home.mount()
    with events.open("w") as out:
        follower = subprocess.Popen(
            [*program(), "events", str(mount.path), "--json"], env=home.environment(), stdout=out, cwd="/"
        )
        try:
            home.cli("buck", "mv", "b/report", "b/report.old")
            home.cli("buck", "mv", "b/report.old", "b/report")
            put(home, "b/end", "")
            while '"end"' not in events.read_text():
                assert follower.poll() is None
        finally:
            follower.terminate()
            follower.wait()
    assert sorted(os.listdir(mount.path / "b")) == ["end", "report"]
    names = {word for word in events.read_text().replace('"', " ").split() if word.startswith("report")}
    assert names <= {"report", "report.old"}, events.read_text()
    mount.umount()


def test_a_file_goes_into_a_folder(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "b")
    file = home.root / "f"
    file.write_text("text")
    for place in ("b", "b/new/", "b/deep/er/"):
        home.cli("buck", "push", file, place)
        assert home.cli("buck", "cat", f"{place.rstrip('/')}/f").stdout == "text"
    home.cli("buck", "push", file, "b/new/g")
    home.cli("buck", "push", file, "b/new")
    assert listed(home, "b/new") == ["f", "g"]
    # With --delete, too: what is in the folder beside it is not what the file was laid over.
    home.cli("buck", "push", "--delete", file, "b/new")
    assert listed(home, "b/new") == ["f", "g"]
    assert "is a file in the bucket" in home.complaint("buck", "push", file, "b/new/g/")


def test_a_pipe_is_pushed(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "b")
    text = "line\n" * 200_000
    home.cli("buck", "push", "-", "b/dump/all.sql", stdin=text)
    assert home.cli("buck", "cat", "b/dump/all.sql").stdout == text
    for place in ("b", "b/dump/"):
        assert "has no name" in home.complaint("buck", "push", "-", place)
    assert not list(home.cache.glob("pipe-*"))


def test_a_private_bucket_says_what_works(hub_home: Home) -> None:
    home = hub_home
    home.cli("buck", "create", "--private", "secret")
    (home.root / "f").write_text("text")
    for arguments in (("push", home.root / "f", "secret/f"), ("pull", "secret", home.root / "back")):
        assert "is private: bucketfs cannot fill such a bucket" in home.complaint("buck", *arguments)


def test_one_path_that_cannot_be_written_leaves_the_others(hub_home: Home, tmp_path: Path) -> None:
    """A name may be right in a bucket and too long a path here."""
    home = hub_home
    home.cli("buck", "create", "b")
    deep = "/".join(["n" * 250] * 17)
    put(home, f"b/{deep}/leaf", "deep")
    put(home, "b/z", "last")
    done = home.cli("buck", "pull", "b", home.root / "back", check=False)
    assert done.returncode == 1 and "left out: " in done.stderr and "Traceback" not in done.stderr
    assert (home.root / "back/z").read_text() == "last"
