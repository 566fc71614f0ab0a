"""Somebody's bucket has forty blocks that unfold into a trillion folders: nothing here makes them, and all else goes on."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from support.home import Home
from support.hubprocess import developer
from support.planting import lattice, plant_tree
from support.waiting import eventually

LEVELS = 40


def shows(file: Path, content: bytes) -> bool:
    return file.read_bytes() == content


def test_pull_watch_and_mount(home: Home) -> None:
    """A bucket of a stranger would fill the disk, or keep a pull, a watch or a mount busy for ever."""
    data = home.root / "hub"
    source = home.root / "source"
    source.mkdir()
    (source / "file").write_text("file")
    with developer(home):
        home.cli("buck", "create", "b")
        home.cli("buck", "push", source, "b")
        plant_tree(data, "b", b"many", *lattice(b"x", LEVELS))

        assert "again and again" in home.complaint("buck", "pull", "b", home.root / "pulled")
        assert sum(1 for _ in (home.root / "pulled").rglob("*")) < 3 * LEVELS

        watched = home.root / "watched"
        watched.mkdir()
        done = home.cli("buck", "watch", "--once", watched, "b", check=False)
        assert (done.returncode, os.listdir(watched)) == (1, ["file"]), done.stderr
        assert "again and again" in done.stdout + done.stderr

        mounted = home.mount("b")
        deep = mounted.path / "many" / "/".join("ab" * (LEVELS // 2))
        assert deep.read_text() == "x"
        # The one file at the bottom becomes another, at every path; and then the same in another encoding.
        for content, cid_version in ((b"y", 1), (b"y", 0)):
            plant_tree(data, "b", b"many", *lattice(content, LEVELS, cid_version))
            mounted.sync()
            eventually(functools.partial(shows, deep, content), "the new content shows")
        (mounted.path / "many" / "b").rename(mounted.path / "moved")
        (mounted.path / "file2").write_text("file2")
        mounted.sync()
        assert sorted(os.listdir(mounted.path)) == ["file", "file2", "many", "moved"]
        mounted.umount()
        done = home.cli("buck", "watch", "--once", watched, "b", check=False)
        # Of a folder that has one of them twice less, the walk stops at the folder that is new.
        assert (watched / "file2").read_text() == "file2", done.stderr
