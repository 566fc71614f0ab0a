"""``bucketfs hub`` against a real Hub in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.home import Home, program


@pytest.fixture
def home(stage: Path, tmp_path: Path) -> Iterator[Home]:
    made = Home(stage / tmp_path.name)
    yield made
    made.end()


@pytest.fixture
def hub(home: Home) -> Iterator[str]:
    """The address of a Hub that confirms sign-ups by itself."""
    arguments = ["hub", "serve", "--data", str(home.root / "hub"), "--listen", "127.0.0.1:0", "--auto-confirm"]
    server = subprocess.Popen([*program(), *arguments], env=home.environment(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        line = server.stdout.readline()
        assert line.startswith("Hub serves on ")
        yield line.split()[3].rstrip(",")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_an_account_from_sign_up_to_a_second_key(home: Home, hub: str) -> None:
    """A new user could not sign up, add a second machine or end a key; or secrets would be shown in lists, or saved for all
    to read."""
    said = home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub).stdout
    credentials = home.config / "credentials.toml"
    assert f"as ann; the key is in {credentials}, profile default" in said
    assert credentials.stat().st_mode & 0o777 == 0o600
    who = json.loads(home.cli("hub", "whoami", "--json").stdout)
    assert (who["username"], who["email"], who["hub"], who["profile"]) == ("ann", "ann@example.org", hub, "default")

    made = json.loads(home.cli("hub", "key", "create", "--user", "--insecure", "--json").stdout)
    assert (made["type"], made["secure"], made["valid"]) == ("user", False, True)
    home.cli("hub", "key", "invalidate", made["key"])
    listed = home.cli("hub", "key", "ls").stdout
    assert made["secret"] not in listed
    states = {info["key"]: info["valid"] for info in json.loads(home.cli("hub", "key", "ls", "--json").stdout)}
    assert states.pop(made["key"]) is False and list(states.values()) == [True]

    # A second machine signs in, with a mail or with a key.
    home.cli("hub", "login", "ann", "--hub", hub, "--profile", "laptop")
    key = json.loads(home.cli("hub", "key", "create", "--json").stdout)
    given = f"{key['key']}\n{key['secret']}\n"
    said = home.cli("hub", "login", "--key", "--hub", hub, "--profile", "desk", stdin=given).stdout
    assert key["secret"] not in said and "as ann" in said
    assert json.loads(home.cli("hub", "whoami", "--json", "--profile", "desk").stdout)["key"] == who["key"]


def test_refusals_are_one_line(home: Home, hub: str) -> None:
    """A refused sign-in would overwrite the saved keys, show the secret, or end in a traceback."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    saved = (home.config / "credentials.toml").read_text()
    assert "Account exists" in home.complaint("hub", "init", "ann", "other@example.org", "--hub", hub)
    for secret, expected in (("bmzxw6ytb", "does not accept this key"), ("not-multibase", "none that a Hub gave out")):
        done = home.cli("hub", "login", "--key", "--hub", hub, stdin=f"bnokey\n{secret}\n", check=False)
        assert done.returncode == 1 and expected in done.stderr and secret not in done.stderr + done.stdout
        assert len(done.stderr.splitlines()) == 1
    assert (home.config / "credentials.toml").read_text() == saved
    assert "keys of profile 'default' are for" in home.complaint("hub", "whoami", "--hub", "127.0.0.1:1")
    assert "give --hub" in home.complaint("hub", "login", "ann", "--profile", "new")
    assert "needs no account" in home.complaint("hub", "login", "ann", "--hub", "embedded")
    (home.config / "credentials.toml").chmod(0o644)
    assert "chmod 600" in home.complaint("hub", "whoami")


def test_a_hub_that_is_away_is_named(home: Home) -> None:
    """Who cannot reach a Hub would not learn which address was tried."""
    said = home.complaint("hub", "init", "ann", "ann@example.org", "--hub", "127.0.0.1:1")
    assert "127.0.0.1:1" in said


def test_what_is_asked_is_asked_before_a_hub_is_looked_for(home: Home) -> None:
    """Ctrl-C, an answer of no, and wrong usage end a command that has not begun: whatever the Hub, with the same code."""
    away = ("--hub", "127.0.0.1:1")
    for words in (("buck", "destroy", "b"), ("hub", "org", "remove", "club")):
        answered = home.cli(*words, *away, check=False, stdin="n\n")
        assert answered.returncode == 130, answered.stderr
        assert "127.0.0.1:1" not in answered.stderr
    nameless = home.cli("buck", "push", "-", "b/", *away, check=False, stdin="text")
    assert nameless.returncode == 2
    assert "no name" in nameless.stderr


def test_careless_listening_is_refused(home: Home) -> None:
    """A Hub would be served to the whole network without encryption, keys included."""
    assert "without TLS" in home.complaint("hub", "serve", "--listen", "0.0.0.0:0")


def test_collecting(home: Home, hub: str) -> None:
    """`hub gc` would delete blocks that are still in use, or work in silence where a restored backup may need them."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    assert home.cli("hub", "gc", "--data", home.root / "hub").stdout.startswith("Deleted 0 blocks")
    assert home.cli("hub", "gc", "--data", home.root / "hub").stderr == ""
    assert "may restore" in home.cli("hub", "gc", "--data", home.root / "hub", "--grace", "0s").stderr
    assert "holds no Hub" in home.complaint("hub", "gc", "--data", "/nowhere")
    assert "--grace is 'x'" in home.complaint("hub", "gc", "--data", home.root / "hub", "--grace", "x")


def test_signing_out_ends_session_and_key(home: Home, hub: str) -> None:
    """A laptop that was signed out could still read the buckets; or signing out would end a key that is used elsewhere."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    home.cli("hub", "login", "ann", "--hub", hub, "--profile", "laptop")
    before = json.loads(home.cli("hub", "key", "ls", "--json").stdout)
    assert [info["valid"] for info in before] == [True, True]
    home.cli("hub", "logout", "--profile", "laptop")
    assert [info["valid"] for info in json.loads(home.cli("hub", "key", "ls", "--json").stdout)] == [True, False]
    assert "[laptop]" not in (home.config / "credentials.toml").read_text()
    assert "has no profile 'laptop'" in home.complaint("hub", "logout", "--profile", "laptop")
    # A key that was only given is only forgotten, and a Hub that is gone needs not to be told.
    made = json.loads(home.cli("hub", "key", "create", "--json", "--save", "desk").stdout)
    home.cli("hub", "logout", "--profile", "desk")
    states = {info["key"]: info["valid"] for info in json.loads(home.cli("hub", "key", "ls", "--json").stdout)}
    assert states[made["key"]] is True
    home.cli("hub", "logout", "--forget")
    assert "[default]" not in (home.config / "credentials.toml").read_text()


def test_the_end_of_an_account(home: Home, hub: str) -> None:
    """An account would be destroyed while it has buckets, or without being asked; or its keys would stay saved."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    home.cli("buck", "create", "notes")
    assert "delete buckets first" in home.complaint("hub", "destroy", "-y")
    assert "interrupted" in home.cli("hub", "destroy", check=False).stderr
    home.cli("buck", "destroy", "-y", "notes")
    assert "The account ann is destroyed" in home.cli("hub", "destroy", "-y").stdout
    assert "[default]" not in (home.config / "credentials.toml").read_text()
    assert "embedded" in home.complaint("hub", "destroy", "-y")


def test_an_organization(home: Home, hub: str) -> None:
    """Members could not work in the buckets of their organization, others could, or it could lose its last owner."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    home.cli("hub", "init", "bob", "bob@example.org", "--hub", hub, "--profile", "bob")
    assert home.cli("hub", "org", "create", "Sea Labs").stdout == "Sea-Labs  Sea Labs\n"
    assert home.cli("hub", "org", "ls").stdout == "Sea-Labs  Sea Labs\n"
    assert "choose another name" in home.complaint("hub", "org", "create", "sea labs")
    assert "/consent/" in home.cli("hub", "org", "invite", "Sea-Labs", "bob@example.org").stdout
    assert home.cli("hub", "org", "members", "Sea-Labs").stdout == "ann  owner\n"
    assert "not an org member" in home.complaint("hub", "org", "members", "Sea-Labs", "--profile", "bob")
    assert "at least one owner" in home.complaint("hub", "org", "leave", "Sea-Labs")

    # A key of the organization acts for it: alone, or found through a session with --org.
    assert home.cli("hub", "key", "create", "--org", "Sea-Labs", "--save", "sea").stdout.startswith("KEY ")
    assert len(json.loads(home.cli("hub", "key", "ls", "-o", "Sea-Labs", "--json").stdout)) == 1
    assert len(json.loads(home.cli("hub", "key", "ls", "--json").stdout)) == 1
    by_key = json.loads(home.cli("hub", "whoami", "--profile", "sea", "--json").stdout)
    by_session = json.loads(home.cli("hub", "whoami", "-o", "Sea-Labs", "--json").stdout)
    assert (by_session["kind"], by_session["username"], by_key["kind"]) == ("organization", "Sea-Labs", "organization")
    assert by_key["key"] == by_session["key"]
    home.cli("buck", "create", "charts", "--profile", "sea")
    assert "charts" in home.cli("buck", "ls", "--org", "Sea-Labs").stdout
    assert "charts" not in home.cli("buck", "ls").stdout
    assert "needs a session" in home.complaint("buck", "ls", "--org", "Sea-Labs", "--profile", "sea")
    home.cli("buck", "destroy", "-y", "charts", "--profile", "sea")
    home.cli("hub", "org", "remove", "-y", "Sea-Labs")
    assert home.cli("hub", "org", "ls").stdout == ""


def test_users_of_an_app(home: Home, hub: str) -> None:
    """One user of an app would see another's buckets, or a key file would be readable for all."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    shown = home.cli("hub", "key", "create", "--user", "--save", "app").stdout.splitlines()
    assert shown[0].split() == ["KEY", "SECRET", "TYPE"] and shown[1].split()[2] == "user"
    key, secret, _ = shown[1].split()
    said = home.cli("hub", "login", "--key", "--hub", hub, "--profile", "given", stdin=f"{key}\n{secret}\n").stdout
    assert "for the users of an app" in said

    one, two = home.root / "one.key", home.root / "two.key"
    who = json.loads(home.cli("hub", "whoami", "--profile", "app", "--identity", one, "--json").stdout)
    assert who["kind"] == "user" and one.stat().st_mode & 0o777 == 0o600
    again = home.cli("hub", "whoami", "--profile", "app", "--identity", one).stdout
    assert again.splitlines()[-1] == who["key"]
    assert one.read_text().strip() not in again
    mine = ("--profile", "app", "--identity", one)
    theirs = ("--profile", "app", "--identity", two)
    bucket = json.loads(home.cli("buck", "create", "notes", "--json", *mine).stdout)
    assert bucket["owner"] == who["key"]
    assert "notes" not in home.cli("buck", "ls", *theirs).stdout
    assert "a user group key" in home.complaint("buck", "ls", "--identity", one)
    assert "Token required" in home.complaint("buck", "ls", "--profile", "app")
    one.chmod(0o644)
    assert "chmod 600" in home.complaint("buck", "ls", *mine)
    assert "not the identity" in home.complaint("buck", "ls", "--profile", "app", "--identity", two.read_text().strip())


def test_roles(home: Home, hub: str) -> None:
    """A guest could read more than the path that was opened for it, or keep reading after the role was taken away."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    home.cli("hub", "key", "create", "--user", "--save", "app")
    who = home.cli("hub", "whoami", "--profile", "app", "--identity", home.root / "one.key").stdout.splitlines()[-1]
    home.cli("buck", "create", "notes")
    (home.root / "tree/sub").mkdir(parents=True)
    (home.root / "tree/sub/a").write_text("a")
    home.cli("buck", "push", home.root / "tree", "notes")
    home.cli("buck", "roles", "grant", "notes", "everyone", "-r", "none")
    said = home.cli("buck", "roles", "grant", "notes/sub", who, "-r", "writer").stdout
    info = json.loads(home.cli("buck", "get", "notes", "--json").stdout)
    assert said.split(": ")[1].split() == ["bucketfs", "mount", "--thread", info["thread"], info["key"], "FOLDER"]
    rows = json.loads(home.cli("buck", "roles", "ls", "notes/sub/a", "--json").stdout)
    assert [(row["path"], row["role"]) for row in rows] == [("", "admin"), ("sub", "writer")]
    assert f"writer  {who}  on sub" in home.cli("buck", "roles", "ls", "notes/sub").stdout
    guest = ("--profile", "app", "--identity", home.root / "one.key", "--thread", info["thread"])
    assert home.cli("buck", "cat", f"{info['key']}/sub/a", *guest).stdout == "a"
    home.cli("buck", "roles", "grant", "notes/sub", who, "-r", "none")
    home.complaint("buck", "cat", f"{info['key']}/sub/a", *guest)
    assert "is not a public key" in home.complaint("buck", "roles", "grant", "notes", "bob", "-r", "reader")
