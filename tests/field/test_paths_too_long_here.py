"""Paths of a bucket that cannot be written here, and of a folder that cannot be read: left out and told, and the rest is done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

LEVELS = 12
NAME = "n" * 200


def deep(top: Path) -> Path:
    """Folders within folders: half of what a path may be."""
    path = top.joinpath(*[NAME] * LEVELS)
    path.mkdir(parents=True)
    return path


def test_a_pull_goes_on_beside_them(buck: Callable[..., str], tmp_path: Path) -> None:
    """One path that is too long here would keep all other files from being pulled."""
    (deep(tmp_path / "one") / "file").touch()
    buck("push", tmp_path / "one", f"home/{'/'.join([NAME] * LEVELS)}")
    (tmp_path / "two").write_text("two")
    buck("push", tmp_path / "two", "home/z")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/extra").touch()
    for option in ("", "--delete"):
        said = buck("pull", *filter(None, [option]), "home", tmp_path / "here", code=1)
        assert "File name too long" in said
        assert "1 left out, the rest is done" in said
        assert (tmp_path / "here/z").read_text() == "two"
    assert not (tmp_path / "here/extra").exists()


def test_a_push_goes_on_beside_them(buck: Callable[..., str], tmp_path: Path) -> None:
    """One folder that is too deep would keep all other files from being pushed."""
    top = tmp_path / "top"
    here = os.open(deep(top), os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir(NAME, dir_fd=here)
        below = os.open(NAME, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (top / "z").write_text("two")
    for option in ("", "--delete"):
        said = buck("push", *filter(None, [option]), top, "home", code=1)
        assert "File name too long" in said
        assert "left out, the rest is done" in said
        assert buck("cat", "home/z") == "two"
    # The runner of the tests could not remove it.
    subprocess.run(["rm", "-rf", top], check=True)
