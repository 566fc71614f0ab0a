"""What a program prints becomes a file of a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def standard_input(path: Path) -> Iterator[None]:
    kept = os.dup(0)
    file = os.open(path, os.O_RDONLY)
    os.dup2(file, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(file)


def test_a_pipe_is_pushed(buck: Callable[..., str], tmp_path: Path) -> None:
    text = "line\n" * 200_000
    (tmp_path / "dump").write_text(text)
    with standard_input(tmp_path / "dump"):
        buck("push", "-", "home/dump/all.sql")
    assert buck("cat", "home/dump/all.sql") == text
    assert "has no name" in buck("push", "-", "home/dump/", code=2)
    assert not list((tmp_path / "cache").rglob("pipe-*"))
    # A slash at the end names a folder.
    (tmp_path / "f").write_text("text")
    buck("push", tmp_path / "f", "home/new/")
    assert buck("ls", "home/new").split() == ["f"]


def test_a_private_bucket_says_what_works(buck: Callable[..., str], tmp_path: Path) -> None:
    buck("create", "--private", "secret")
    (tmp_path / "f").write_text("text")
    for arguments in (("push", tmp_path / "f", "secret/f"), ("pull", "secret", tmp_path / "back")):
        assert "is private: bucketfs cannot fill such a bucket" in buck(*arguments, code=1)
