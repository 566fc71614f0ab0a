"""``buck mv`` where the tree is not to be had: the rules are the same, and one step is enough where the Hub compares names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support.plainclient import PlainClient

from bucketfs.config import CredentialsFile, find_paths
from bucketfs.hub import HubServer

FILES = {"a": b"a", "to/a/full": b"x", "to/folder": b"x", "folder/x": b"x", "report": b"report"}


def revision(tmp_path: Path) -> int:
    """How often the bucket was saved."""
    with closing(sqlite3.connect(tmp_path / "hub/hub.sqlite")) as database:
        (found,) = database.execute("SELECT revision FROM buckets WHERE name = 'secret'").fetchone()
    return int(found)


def test_the_rules_are_the_same(hub: HubServer, buck: Callable[..., str], tmp_path: Path) -> None:
    """`mv` in a private bucket would replace a folder by a file, or lose what it moves."""
    buck("create", "--private", "secret")
    mine = CredentialsFile(find_paths(os.environ).credentials_file).profile("default").credentials
    with PlainClient(hub.address, api_key=mine.api_key, api_secret=mine.api_secret) as client:
        client.push_paths(client.enter("secret"), FILES)
    before = revision(tmp_path)
    assert "is a folder, and a file would replace it" in buck("mv", "secret/a", "secret/to", code=1)
    assert "is a file, and a folder would replace it" in buck("mv", "secret/folder", "secret/to", code=1)
    assert "cannot be moved into itself" in buck("mv", "secret/to", "secret/to/a/b", code=1)
    assert "a is no folder" in buck("mv", "secret/report", "secret/a/", code=1)
    assert "no such file or folder" in buck("mv", "secret/nothing", "secret/x", code=1)
    assert revision(tmp_path) == before
    # One name begins with the other.
    for old, new in (("report", "report.old"), ("report.old", "report"), ("report", "new/"), ("new/report", "")):
        buck("mv", f"secret/{old}", f"secret/{new}")
    assert revision(tmp_path) == before + 4
    assert buck("cat", "secret/report") == "report"
    assert buck("ls", "secret/new") == ""
