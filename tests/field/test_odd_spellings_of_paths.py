"""BUCKET/PATH as people type it: with slashes at the end, doubled, with dots, of files, of symlinks, of nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Buck = Callable[..., str]


@pytest.fixture
def buck(buck: Buck, tmp_path: Path) -> Buck:
    """With some things in ``home``."""
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "f").write_text("f")
    (tree / "d/g").write_text("g")
    os.symlink("d", tree / "link")
    buck("push", tree, "home")
    return buck


def test_a_slash_at_the_end_means_a_folder(buck: Buck, tmp_path: Path) -> None:
    """A slash too much would move, remove or overwrite a file where a folder was meant."""
    assert buck("ls", "home//d//") == "g\n"
    for command in ("ls", "cat", "rm", "links"):
        for name in ("f", "link"):
            assert f"home/{name}/ is no folder" in buck(command, f"home/{name}/", code=1)
    assert "is no folder" in buck("mv", "home/f/", "home/x", code=1)
    for place in ("home/f/", "home/link/", "home/f/x"):
        assert "is no folder" in buck("mv", "home/d/g", place, code=1)
        assert "is no folder" in buck("push", tmp_path / "tree/f", place, code=1)
    assert "is no folder" in buck("pull", "home/f/", tmp_path / "x", code=1)
    buck("mv", "home/d/g", "home/new/")
    buck("push", tmp_path / "tree/f", "home/new/")
    assert buck("ls", "home/new/").split() == ["f", "g"]
    buck("pull", "home/f", f"{tmp_path}/there/")
    buck("pull", "home/new/g", f"{tmp_path}/there/.")
    assert sorted(os.listdir(tmp_path / "there")) == ["f", "g"]
    assert "is a file here" in buck("pull", "home/f", f"{tmp_path}/tree/f/", code=1)


def test_what_is_said_names_what_was_typed(buck: Buck, tmp_path: Path) -> None:
    """An error would name another path than the user typed."""
    buck("create", "--private", "secret")
    for place in ("home/nope", "home/f/x", "home/d/nope/", "home/link/g", "secret/nope", "home/" + "n" * 300):
        for command in (["cat"], ["ls"], ["rm", "-r"], ["links"], ["roles", "grant", "-r", "reader"]):
            more = ["everyone"] if command[0] == "roles" else []
            assert buck(*command, place, *more, code=1) == f"bucketfs: no such file or folder: {place}\n"
        assert f"no such file or folder: {place}" in buck("mv", place, f"{place.split('/')[0]}/x", code=1)
    assert "home/link is a symlink to d" in buck("cat", "home/link", code=1)
    assert "secret is a folder" in buck("cat", "secret", code=1)


def test_a_bucket_alone(buck: Buck) -> None:
    """`destroy home/f` would destroy the whole bucket home."""
    assert buck("get", "home/") == buck("get", "home")
    for place in ("home/f", "home/d/", "home/.", "", "/"):
        assert "name a bucket alone" in buck("get", place, code=2)
        assert "name a bucket alone" in buck("destroy", "--yes", place, code=2)
    for place in ("home/.", "home/..", "home/./d", "home/d/../f"):
        for command in (["ls"], ["cat"], ["rm", "-r"]):
            assert "leave out '.' and '..'" in buck(*command, place, code=2)
    assert "names no bucket" in buck("ls", "/", code=2)
