"""A user copies a folder where a file stands, or the other way round: refused as cp, mv and rsync do, until it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from support.home import Home
from support.served import ServedHub


def put(home: Home, place: str, text: str) -> None:
    home.cli("buck", "push", "-", place, stdin=text)


def test_what_another_kind_would_replace(home: Home) -> None:
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", "b")
        mine = home.root / "mine"
        (mine / "doc").mkdir(parents=True)
        (mine / "doc/new").write_text("new")
        put(home, "b/doc", "the only copy")
        assert "is a file in the bucket and a folder here" in home.complaint("buck", "push", mine, "b")
        assert "is a file, and a folder would replace it" in _moved(home)
        assert home.cli("buck", "cat", "b/doc").stdout == "the only copy"
        back = home.root / "back"
        back.write_text("the only copy")
        assert "a folder in the bucket" in home.complaint("buck", "pull", "b/dir", back)
        assert back.read_text() == "the only copy"
        home.cli("buck", "pull", "--delete", "b/dir", back)
        assert os.listdir(back) == ["doc"]


def _moved(home: Home) -> str:
    folder = home.root / "folder/doc"
    folder.mkdir(parents=True)
    home.cli("buck", "push", folder.parent, "b/dir")
    return home.complaint("buck", "mv", "b/dir/doc", "b")


def test_a_pipe_is_pushed(home: Home) -> None:
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", "b")
        text = "line\n" * 200_000
        put(home, "b/dump/all.sql", text)
        assert home.cli("buck", "cat", "b/dump/all.sql").stdout == text
        assert "has no name" in home.complaint("buck", "push", "-", "b/dump/")
        assert not list(home.cache.glob("pipe-*"))
        # A slash at the end names a folder.
        file = home.root / "f"
        file.write_text("text")
        home.cli("buck", "push", file, "b/new/")
        assert home.cli("buck", "ls", "b/new").stdout.split() == ["f"]


def test_a_private_bucket_says_what_works(home: Home) -> None:
    home.cli("buck", "create", "--private", "secret")
    file: Path = home.root / "f"
    file.write_text("text")
    for arguments in (("push", file, "secret/f"), ("pull", "secret", home.root / "back")):
        assert "is private: bucketfs cannot fill such a bucket" in home.complaint("buck", *arguments)
