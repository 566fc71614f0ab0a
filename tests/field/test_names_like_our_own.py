"""A user's files have names like those that bucketfs uses itself: they are files like any other, for every command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

NAMES = (
    ".bucketfs-aside-notes",
    f".bucketfs-aside-{'ab' * 16}-0",
    ".bucketfs-move-it",
    "x.new",
    ".fuse_hidden0001",
    ".nfs01",
)


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def test_they_are_pushed_pulled_watched_and_kept(buck: Callable[..., str], tmp_path: Path) -> None:
    """A user's file that is named like a temporary of bucketfs would be left out, or deleted."""
    mine, pushed, pulled = (tmp_path / name for name in ("mine", "pushed", "pulled"))
    (mine / "dir").mkdir(parents=True)
    wanted = sorted(["dir", *NAMES, *(f"dir/{name}" for name in NAMES)])
    for path in wanted:
        if path != "dir":
            (mine / path).write_text("a user's")
            os.utime(mine / path, (0, 0))
    buck("watch", "--once", mine, "home")
    buck("pull", "--delete", "home", pulled)
    assert names(mine) == names(pulled) == wanted
    buck("create", "other")
    buck("push", "--delete", pulled, "other")
    buck("pull", "other", pushed)
    assert names(pushed) == wanted
    # A removal is one, too.
    (mine / NAMES[0]).unlink()
    buck("watch", "--once", mine, "home")
    assert NAMES[0] not in {row["name"] for row in json.loads(buck("ls", "--json", "home"))}


def test_the_name_of_the_hub_is_a_users_below_the_top(buck: Callable[..., str], tmp_path: Path) -> None:
    """Files called .textileseed in subfolders would be missing from the bucket, or the Hub's own one could be removed."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/.textileseed").touch()
    (tmp_path / "tree/sub/a.textileseed.txt").touch()
    buck("push", tmp_path / "tree", "home")
    assert buck("ls", "home").split() == ["sub/"]
    assert buck("ls", "home/sub").split() == [".textileseed", "a.textileseed.txt"]
    buck("rm", "home/sub/.textileseed")
    buck("rm", "home/sub/a.textileseed.txt")
    assert buck("ls", "home/sub") == ""
    assert "the Hub's own" in buck("rm", "home/.textileseed", code=1)
