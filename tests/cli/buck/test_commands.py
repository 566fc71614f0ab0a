"""``bucketfs buck`` as a user types it, against the real Hub."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketfs.cli import main
from bucketfs.hub import HubServer


@pytest.fixture
def run(hub: HubServer, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., bytes]:
    """Runs ``bucketfs buck …``; returns what it printed. ``code`` is the exit code it must have."""

    def run(*arguments: str, code: int = 0) -> bytes:
        capfdbinary.readouterr()
        ended = main(["buck", *arguments])
        out, err = capfdbinary.readouterr()
        assert ended == code, err.decode()
        if code:
            assert err.startswith((b"bucketfs: ", b"left out: "))
            assert b"Traceback" not in err
            return err
        return out

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "hello.txt").write_text("hello\n")
    (top / "sub/big").write_bytes(os.urandom(700_000))
    os.symlink("hello.txt", top / "link")
    os.utime(top / "hello.txt", ns=(1, 1_600_000_000_123_456_789))
    return top


def test_buckets_come_and_go(run: Callable[..., bytes]) -> None:
    """A user could not make a bucket, find it by name or key, or destroy it; or a second one of the same name would be made
    silently."""
    made = json.loads(run("create", "photos", "--json"))
    assert made["name"] == "photos"
    assert made["private"] is False
    assert b"photos" in run("ls")
    assert [found["key"] for found in json.loads(run("ls", "--json"))] == [made["key"]]
    assert json.loads(run("get", made["key"], "--json")) == made
    assert made["key"].encode() in run("get", "photos")
    assert b"already" in run("create", "photos", code=2)
    run("destroy", "photos", "--yes")
    assert json.loads(run("ls", "--json")) == []
    assert b"photos" in run("get", "photos", code=1)


def test_a_bucket_as_people_see_it(run: Callable[..., bytes]) -> None:
    """Who makes a bucket in a terminal would miss its key or root, or would read a time stamp as a bare number."""
    lines = run("create", "photos").decode().splitlines()
    names = ["name", "key", "root", "thread", "owner", "private", "created at", "updated at"]
    assert [line[:12].strip() for line in lines] == names
    assert all(len(line[12:].split()[0]) == 10 for line in lines[-2:]), "a date"


def test_push_look_pull(run: Callable[..., bytes], tree: Path, tmp_path: Path) -> None:
    """A tree that was pushed would come back with other bytes, links or times; or a second push would send everything again."""
    run("create", "home")
    assert b"2 files" in run("push", str(tree), "home/in/here")
    assert run("ls", "home") == b"in/\n"
    assert run("ls", "home/in/here") == b"hello.txt\nlink\nsub/\n"
    rows: list[dict[str, Any]] = json.loads(run("ls", "-l", "--json", "home/in/here"))
    assert [(row["name"], row["kind"], row["size_bytes"]) for row in rows] == [
        ("hello.txt", "file", 6),
        ("link", "symlink", 9),
        ("sub", "directory", 0),
    ]
    assert rows[0]["mtime_ns"] == 1_600_000_000_123_456_789
    assert b"link -> hello.txt" in run("ls", "-l", "home/in/here")
    assert run("cat", "home/in/here/hello.txt") == b"hello\n"
    assert run("cat", "home/in/here/sub/big") == (tree / "sub/big").read_bytes()
    pulled = json.loads(run("pull", "home/in/here", str(tmp_path / "back"), "--json"))
    assert (pulled["files"], pulled["symlinks"], pulled["skipped"]) == (2, 1, [])
    assert (tmp_path / "back/sub/big").read_bytes() == (tree / "sub/big").read_bytes()
    assert (tmp_path / "back/hello.txt").stat().st_mtime_ns == 1_600_000_000_123_456_789
    again = json.loads(run("push", str(tree), "home/in/here", "--json"))
    assert (again["unchanged"], again["bytes_sent"]) == (3, 0)
    (tree / "hello.txt").unlink()
    assert json.loads(run("push", str(tree), "home/in/here", "--delete", "--json"))["removed"] == 1
    assert run("ls", "home/in/here") == b"link\nsub/\n"


def test_move_and_remove(run: Callable[..., bytes], tree: Path) -> None:
    """`rm` without -r would take a whole folder, `rm` of a bucket's name would empty it, or `mv` would lose a file."""
    run("create", "home")
    run("create", "other")
    run("push", str(tree), "home")
    run("mv", "home/hello.txt", "home/hello.txt.old")
    run("mv", "home/hello.txt.old", "home/sub")
    assert run("ls", "home/sub") == b"big\nhello.txt.old\n"
    assert b"bucket" in run("mv", "home/link", "other/link", code=1)
    assert b"-r" in run("rm", "home/sub", code=1)
    run("rm", "-r", "home/sub")
    run("rm", "home/link")
    assert run("ls", "home") == b""
    assert b"destroy" in run("rm", "home", code=2)


def test_links(run: Callable[..., bytes]) -> None:
    """Links that a command prints lead to the bucket, also to a private one: they would show another bucket, or nothing."""
    for options in ((), ("--private",)):
        key = json.loads(run("create", f"site{len(options)}", *options, "--json"))["key"]
        addresses = json.loads(run("links", f"site{len(options)}", "--json"))
        assert key.encode() in run("links", f"site{len(options)}")
        for url in (addresses["url"], addresses["ipns"]):
            with urllib.request.urlopen(url, timeout=30) as page:
                assert page.status == 200


def test_private_buckets_are_read_by_path_and_not_carried(run: Callable[..., bytes], tree: Path) -> None:
    """`push` to a private bucket would store files there in plain text, against the promise of the bucket."""
    run("create", "secret", "--private")
    assert b"private" in run("ls")
    assert run("ls", "secret") == b""
    assert b"private" in run("push", str(tree), "secret", code=1)


def test_errors_are_one_line(run: Callable[..., bytes], tree: Path) -> None:
    """A mistyped path would end in a traceback, or in an exit code from which a script takes it for a success."""
    run("create", "home")
    for arguments, code in (
        (("ls", "nowhere"), 1),
        (("ls", "home/nowhere"), 1),
        (("cat", "home"), 1),
        (("cat", "home/../x"), 2),
        (("pull", "home/nowhere", str(tree)), 1),
        (("get",), 2),
    ):
        assert run(*arguments, code=code).count(b"\n") == 1


def test_what_was_left_out_is_said(run: Callable[..., bytes], tree: Path) -> None:
    """A file that cannot be pushed would be missing from a backup without a word, or would stop the others."""
    run("create", "home")
    os.mkfifo(tree / "pipe")
    said = run("push", str(tree), "home", code=1)
    assert b"left out: pipe" in said
    assert run("cat", "home/hello.txt") == b"hello\n"
