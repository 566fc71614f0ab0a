"""Two users of one user group key: each has a mount, neither sees the other's, and a role opens exactly one path."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.home import Home, Mounted
from support.hubprocess import developer
from support.waiting import eventually


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(act: Callable[[], object]) -> int | None:
    """The errno that an act fails with."""
    try:
        act()
    except OSError as error:
        return error.errno
    return None


@pytest.mark.timeout(240)
def test_two_users_of_one_key(home: Home) -> None:
    """One user of an app would see another's files, a role would open more than its path, or a refused change would be lost."""
    with developer(home):
        home.cli("hub", "key", "create", "--user", "--save", "app")
        as_alice = ("--profile", "app", "--identity", home.root / "alice.key")
        as_bob = ("--profile", "app", "--identity", home.root / "bob.key")
        alice = home.mount(*as_alice, where=home.root / "alice")
        bob = home.mount(*as_bob, where=home.root / "bob")
        (alice.path / "notes/deep").mkdir(parents=True)
        for name in ("diary", "list", "deep/one", "deep/two"):
            (alice.path / "notes" / name).write_text(name)
        (bob.path / "songs").mkdir()
        (bob.path / "songs/first").write_text("la")
        alice.sync()
        bob.sync()
        assert (os.listdir(alice.path), os.listdir(bob.path)) == (["notes"], ["songs"])
        assert "notes" not in home.cli("buck", "ls", *as_bob).stdout

        # Closed, and then opened for one file and one folder.
        who = home.cli("hub", "whoami", *as_bob).stdout.splitlines()[-1]
        home.cli("buck", "roles", "grant", "notes", "everyone", "--role", "none", *as_alice)
        info = json.loads(home.cli("buck", "get", "notes", "--json", *as_alice).stdout)
        shared = (*as_bob, "--thread", info["thread"], info["key"])
        (home.root / "guest").mkdir()
        assert "nothing of bucket" in home.complaint("mount", *shared, home.root / "guest")
        home.cli("buck", "roles", "grant", "notes/list", who, "--role", "writer", *as_alice)
        guest = home.mount(*shared, where=home.root / "guest")
        assert tree(guest.path) == {"list"}

        home.cli("buck", "roles", "grant", "notes/deep", who, "--role", "reader", *as_alice)
        eventually(lambda: tree(guest.path) == {"list", "deep", "deep/one", "deep/two"}, "a role does not show")
        check_what_may_be_done(guest)
        guest.sync()
        eventually(lambda: (alice.path / "notes/list").read_text() == "milk", "what a writer wrote does not show")
        assert tree(alice.path / "notes") == {"diary", "list", "deep", "deep/one", "deep/two"}

        # Taken away again, while a change of his is on its way.
        with (guest.path / "list").open("r+") as held:
            held.write("tea!")
            home.cli("buck", "roles", "grant", "notes/list", who, "--role", "none", *as_alice)
            eventually(lambda: "list" not in tree(guest.path) or bool(guest.status()["buckets"][0]["refused"]), "still open")
            held.write("more")
        # The last one to be unmounted looks at the logs of all.
        alice.expect("'list' cannot go to the Hub")
        assert "refuses 'list'" in home.complaint("sync", guest.path)
        assert guest.status()["buckets"][0]["refused"][0]["path"] == "list"
        assert "list: changing it takes the role of a writer" in home.cli("status", guest.path).stdout
        assert (alice.path / "notes/list").read_text() == "milk"
        home.cli("buck", "roles", "grant", "notes/list", who, "--role", "writer", *as_alice)
        eventually(lambda: (alice.path / "notes/list").read_text() == "tea!more", "what was refused is not tried again")
        for mount in (guest, bob):
            home.cli("umount", mount.path)
        alice.umount()


def check_what_may_be_done(guest: Mounted) -> None:
    """A writer of ``list`` and reader of ``deep``, as programs see it."""
    top = guest.path
    (top / "list").write_text("milk")
    assert (top / "deep/one").read_text() == "deep/one"
    for act in (
        lambda: (top / "deep/one").write_text("x"),
        lambda: (top / "deep/one").unlink(),
        lambda: (top / "list").unlink(),
        lambda: (top / "list").rename(top / "other"),
        lambda: (top / "new").write_text("x"),
        lambda: (top / "deep/new").mkdir(),
        lambda: os.symlink("list", top / "link"),
        lambda: os.truncate(top / "deep/two", 0),
        lambda: (top / "deep/two").chmod(0o600),
    ):
        assert refused(act) == errno.EACCES
    assert refused(lambda: (top / "diary").read_text()) == errno.ENOENT
