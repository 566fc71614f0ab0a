"""What a program prints becomes a file of a bucket."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.home import program
from support.waiting import eventually


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


def spools(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*pipe-*"))


def test_a_pipe_is_pushed(buck: Callable[..., str], tmp_path: Path) -> None:
    """`pg_dump | bucketfs buck push -` would store a shortened dump, or leave a copy of it on the disk."""
    text = "line\n" * 200_000
    (tmp_path / "dump").write_text(text)
    with standard_input(tmp_path / "dump"):
        buck("push", "-", "home/dump/all.sql")
    assert buck("cat", "home/dump/all.sql") == text
    assert "has no name" in buck("push", "-", "home/dump/", code=2)
    assert "has no name" in buck("push", "-", "home/dump", code=1)
    assert not spools(tmp_path)
    # A slash at the end names a folder.
    (tmp_path / "f").write_text("text")
    buck("push", tmp_path / "f", "home/new/")
    assert buck("ls", "home/new").split() == ["f"]


def test_what_a_stopped_run_kept_goes(buck: Callable[..., str], tmp_path: Path) -> None:
    """Each stopped push of a pipe would leave its bytes on the disk for ever."""
    runs = [
        subprocess.Popen([*program(), "buck", "push", "-", f"home/{name}"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for name in ("ended", "killed")
    ]
    try:
        eventually(lambda: len(spools(tmp_path)) == 2, "nothing is kept")
        for run, number in zip(runs, (signal.SIGTERM, signal.SIGKILL), strict=True):
            run.send_signal(number)
            assert run.wait(30) == -number
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert len(spools(tmp_path)) == 1
    (tmp_path / "text").write_text("text")
    with standard_input(tmp_path / "text"):
        buck("push", "-", "home/next")
    assert not spools(tmp_path)
    assert buck("ls", "home") == "next\n"


def test_a_file_may_be_called_as_the_standard_input_is(
    buck: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called "-" could not be pushed; the empty standard input would be stored instead."""
    (tmp_path / "-").write_text("the file")
    monkeypatch.chdir(tmp_path)
    with standard_input(Path(os.devnull)):
        buck("push", "./-", "home/")
    assert buck("cat", "home/-") == "the file"


def test_what_is_no_file_is_not_read(buck: Callable[..., str], tmp_path: Path) -> None:
    """`push /dev/zero` would fill the disk, and a push of a FIFO would hang."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "f").touch()
    buck("push", tmp_path / "f", "home/f")
    for path in (tmp_path / "fifo", "/dev/zero", "/dev/null"):
        assert f"{path} is neither file, folder nor symlink" in buck("push", path, "home/f", code=1)
    read, write = os.pipe()
    # What a shell writes for <(command).
    assert "is pushed with -" in buck("push", f"/dev/fd/{read}", "home/f", code=1)
    os.close(read)
    os.close(write)


def test_a_private_bucket_says_what_works(buck: Callable[..., str], tmp_path: Path) -> None:
    """A user would not learn that a private bucket cannot be pushed to or pulled from, or plain files would land in it."""
    buck("create", "--private", "secret")
    (tmp_path / "f").write_text("text")
    for arguments in (("push", tmp_path / "f", "secret/f"), ("pull", "secret", tmp_path / "back")):
        assert "is private: bucketfs cannot push folders to it" in buck(*arguments, code=1)
