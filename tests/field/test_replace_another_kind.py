"""A folder where a file was, a file where a folder was, a symlink where either was: nothing goes that no option told to go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_disk import small_disk

Buck = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "folder"
    top.mkdir()
    (top / "inside").write_text("inside")
    return top


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("precious")
    return path


def kinds(buck: Buck, place: str) -> dict[str, str]:
    return {row["name"]: row["kind"] for row in json.loads(buck("ls", "-l", "--json", place))}


def test_a_pushed_folder_replaces_no_file_and_no_symlink(buck: Buck, folder: Path, file: Path, tmp_path: Path) -> None:
    """Pushing a folder would destroy a file of that name in the bucket without `--delete`."""
    before = tmp_path / "before"
    before.mkdir()
    file.rename(before / "doc")
    os.symlink("doc", before / "link")
    buck("push", before, "home")
    for name in ("doc", "link"):
        assert "--delete" in buck("push", folder, f"home/{name}", code=1)
    # Below the folder that is pushed, and as a folder above it.
    (tmp_path / "all/doc").mkdir(parents=True)
    (tmp_path / "all/new").touch()
    assert "doc is no folder in the bucket" in buck("push", tmp_path / "all", "home", code=1)
    assert "doc is no folder in the bucket" in buck("push", folder, "home/doc/sub", code=1)
    assert kinds(buck, "home") == {"doc": "file", "link": "symlink"}
    assert buck("cat", "home/doc") == "precious"
    buck("push", "--delete", folder, "home/doc")
    assert kinds(buck, "home/doc") == {"inside": "file"}


def test_a_pulled_folder_replaces_no_file_and_no_symlink(buck: Buck, folder: Path, file: Path, tmp_path: Path) -> None:
    """Pulling a folder would destroy a file here, or write through a symlink into another folder."""
    buck("push", folder, "home/to/a")
    buck("push", folder, "home/to/b")
    buck("push", folder, "home/to/c")
    assert "--delete" in buck("pull", "home/to", file, code=1)
    assert file.read_text() == "precious"
    here = tmp_path / "here"
    here.mkdir()
    os.symlink(folder, here / "a")
    os.symlink("nowhere", here / "b")
    (here / "c").write_text("precious")
    said = buck("pull", "home/to", here, code=1)
    assert all(f"left out: to/{name}: " in said for name in "abc")
    assert said.count("--delete") == 3
    assert os.readlink(here / "a") == str(folder)
    assert os.readlink(here / "b") == "nowhere"
    assert (here / "c").read_text() == "precious"
    buck("pull", "--delete", "home/to", here)
    assert sorted(os.listdir(folder)) == ["inside"]
    assert all((here / name / "inside").read_text() == "inside" for name in "abc")
    assert not any((here / name).is_symlink() for name in "abc")


def test_a_pulled_file_or_symlink_replaces_no_folder(buck: Buck, folder: Path, file: Path, tmp_path: Path) -> None:
    """Pulling a file would remove a whole folder here, or overwrite what a symlink leads to."""
    there = tmp_path / "there"
    there.mkdir()
    for name in ("folder", "linked", "pipe", "file"):
        (there / name).write_text("theirs")
    for name in ("link over folder", "link over link"):
        os.symlink("theirs", there / name)
    buck("push", there, "home")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("folder", "link over folder"):
        (here / name).mkdir()
        (here / name / "mine").touch()
    for name in ("linked", "link over link"):
        os.symlink(folder, here / name)
    os.symlink(file, here / "file")
    os.mkfifo(here / "pipe")
    said = buck("pull", "home", here, code=1)
    left = {"folder", "link over folder", "linked", "pipe"}
    assert {name for name in os.listdir(there) if f"left out: {name}:" in said or f"left out: '{name}':" in said} == left
    assert (here / "folder/mine").exists()
    assert (here / "link over folder/mine").exists()
    assert (here / "linked").resolve() == folder
    assert (here / "pipe").is_fifo()
    # Links and files replace each other, and never what a link leads to.
    assert os.readlink(here / "link over link") == "theirs"
    assert (here / "file").read_text() == "theirs"
    assert file.read_text() == "precious"
    buck("pull", "--delete", "home", here)
    assert {name: (here / name).lstat().st_mode for name in os.listdir(here)} == {
        name: (there / name).lstat().st_mode for name in os.listdir(there)
    }
    assert os.listdir(folder) == ["inside"]


def test_a_moved_thing_replaces_nothing_of_another_kind(buck: Buck, folder: Path, file: Path) -> None:
    """`mv` would replace a folder with all that is in it by a file."""
    buck("push", folder, "home/a")
    buck("push", file, "home/to/a")
    buck("push", file, "home/doc")
    buck("push", folder, "home/to/doc")
    assert "is a file, and a folder would replace it" in buck("mv", "home/a", "home/to", code=1)
    assert "is a folder, and a file would replace it" in buck("mv", "home/doc", "home/to", code=1)
    buck("mv", "home/doc", "home/docs")
    assert kinds(buck, "home") == {"a": "directory", "docs": "file", "to": "directory"}
    assert kinds(buck, "home/to") == {"a": "file", "doc": "directory"}


def test_a_mounted_disk_is_not_emptied(buck: Buck, folder: Path, tmp_path: Path) -> None:
    """`pull --delete` would delete the files of another disk that is mounted below the folder."""
    buck("push", folder, "home")
    here = tmp_path / "here"
    (here / "only here/deep").mkdir(parents=True)
    (here / "only here/file").touch()
    with small_disk(here / "only here/deep/disk", 1), small_disk(here / "inside", 1):
        kept = [here / "only here/deep/disk/kept", here / "inside/kept"]
        for path in kept:
            path.write_text("kept")
        # Neither in the way of a file, nor somewhere in a folder that the bucket has not.
        said = buck("pull", "--delete", "home", here, code=1)
        assert said.count("is a mount point") == 2
        assert [path.read_text() for path in kept] == ["kept", "kept"]
        assert (here / "only here/file").exists()
    buck("pull", "--delete", "home", here)
    assert os.listdir(here) == ["inside"]
    assert (here / "inside").read_text() == "inside"
