"""A bucket is called otherwise at the Hub while it is mounted and in use.

No call of the protocol that this Hub offers renames a bucket (a Textile Hub does it by saving the thread's instance, which is not
offered here), so the name is changed where the Hub keeps it, as another Hub process over the same database would.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable

import pytest
from support.home import Home


def call_buckets(home: Home, names: dict[str, str]) -> None:
    """Give buckets other names at the Hub, all in one transaction."""
    (database,) = home.data.rglob("hub.sqlite")
    with sqlite3.connect(database, timeout=30) as connection:
        keys = {old: connection.execute("select key from buckets where name = ?", (old,)).fetchone()[0] for old in names}
        for old, new in names.items():
            connection.execute("update buckets set name = ?, revision = revision + 1 where key = ?", (new, keys[old]))
    connection.close()


def eventually(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_a_bucket_gets_another_name_while_it_is_used(home: Home) -> None:
    """Programs that work in a bucket would lose their folder or their writes when the bucket is renamed at the Hub."""
    mounted = home.mount()
    top = mounted.path
    (top / "second").mkdir()
    (top / "second/other").write_text("second")
    (top / "home/d").mkdir()
    (top / "home/d/f").write_text("one ")
    mounted.sync()
    inode = (top / "home").stat().st_ino
    inside = subprocess.Popen(
        ["sh", "-c", "read go; cat f; echo three >> f"],
        cwd=top / "home/d",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with (top / "home/d/f").open("a", buffering=1) as held:
        call_buckets(home, {"home": "haus"})
        held.write("two\n")
        mounted.sync()
        eventually(lambda: sorted(os.listdir(top)) == ["haus", "second"], "the new name does not show")
        assert not (top / "home").exists() and (top / "haus").stat().st_ino == inode
        assert (top / "haus/d/f").read_text() == "one two\n"
        # Neither who stands inside nor who has something open notices.
        assert inside.communicate("go\n", timeout=60)[0] == "one two\n"
        assert inside.returncode == 0
        held.write("four\n")
    assert (top / "haus/d/f").read_text() == "one two\nthree\nfour\n"

    # They take each other's names, and what waits here comes along.
    call_buckets(home, {"haus": "second", "second": "haus"})
    (top / "haus/d/late").write_text("written under the old name")
    mounted.sync()
    eventually(lambda: (top / "second/d").exists() and (top / "haus/other").exists(), "the names are not swapped")
    assert (top / "second/d/late").read_text() == "written under the old name"
    # Two of one name: who stands there keeps it.
    call_buckets(home, {"haus": "second"})
    mounted.sync()
    eventually(lambda: not (top / "haus").exists(), "the old name still shows")
    (first, other) = sorted(os.listdir(top))
    assert first == "second" and other.startswith("second (") and (top / other / "other").read_text() == "second"
    assert (top / "second").stat().st_ino == inode
    mounted.umount()


@pytest.mark.timeout(240)
def test_a_mount_of_one_bucket_finds_it_under_its_new_name(home: Home) -> None:
    """After a rename at the Hub a mount of the bucket would not start again, with changes still in it."""
    mounted = home.mount("home")
    (mounted.path / "f").write_text("x")
    mounted.sync()
    (mounted.path / "g").write_text("never pushed before the kill")
    mounted.kill()
    call_buckets(home, {"home": "haus"})
    mounted = home.mount("home")
    mounted.expect("bucket 'home' was renamed to 'haus' at the Hub")
    assert (mounted.path / "g").read_text() == "never pushed before the kill"
    assert mounted.status()["buckets"][0]["name"] == "haus"
    mounted.umount()
