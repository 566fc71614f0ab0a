"""What the last release left on a disk is read by this one: journals, caches, a Hub's data, settings, keys, a watched folder.

``tests/support/make_samples.py`` made the samples by running that release; ``expected.json`` says what was on the mounts and at
the Hub when it was killed. Everything is opened by the commands a user types, so that no rebuilding of the inside needs a change
here. A test that fails means: whoever updates loses something.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.foreground import Foreground
from support.home import Home
from support.keyring import ApiKey
from support.make_samples import contents_at_hub, facts_of
from support.plainclient import PlainClient
from support.served import ServedHub
from support.waiting import eventually

from bucketfs.config import CredentialsFile, load_config
from bucketfs.wire import users_pb2

SAMPLES = Path(__file__).parent / "0.1"
RENUMBERED = ("swap one", "swap two", "swap two/in one", "chosen by renaming", "tree/d")
"""What was renamed and holds the bytes of the base: no record says its inode number, so a kill costs it its own."""

EXPECTED: dict[str, Any] = json.loads((SAMPLES / "expected.json").read_text())


def tag(text: str) -> str:
    """How folders of state are named. Were it otherwise, a mount would no longer find its own journal."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def mount_tag(place: str, who: str, bucket: str = "", prefix: str = "") -> str:
    """The name of the state folder of one mount: by its Hub, who acts, and what is mounted."""
    return tag(f"{place}\n{who}\n{bucket}\n{prefix}")


def unpack(name: str, home: Home) -> None:
    """Puts a sample where it lay."""
    with tarfile.open(SAMPLES / f"{name}.tar.xz") as tar:
        tar.extraction_filter = lambda member, folder: member  # our own archive; modes are part of it
        tar.extractall(home.root)


def move_state(home: Home, old: str, new: str) -> None:
    """Give the state and the cache of a mount the name that they have for a Hub at another address."""
    assert (home.state / "mounts" / old).is_dir(), f"the sample has no state {old}"
    for folder in (home.state / "mounts", home.cache):
        (folder / old).rename(folder / new)


def use_sessions(data: Path) -> None:
    """A session ends 1,260 days after its last use: make that a moment ago, however old the sample is."""
    with contextlib.closing(sqlite3.connect(data / "hub.sqlite")) as database, database:
        database.execute("update sessions set expires_at_ns = ?", (time.time_ns() + 1260 * 24 * 3600 * 10**9,))


@pytest.fixture
def hub(home: Home) -> Iterator[ServedHub]:
    """The Hub of the sample, not started yet, and the home of its user, who knows it at its new address."""
    unpack("hub", home)
    unpack("home", home)
    served = ServedHub(home, home.data / "hub")
    use_sessions(served.data)
    credentials = home.config / "credentials.toml"
    text = credentials.read_text()
    assert EXPECTED["hub"] in text
    credentials.write_text(text.replace(EXPECTED["hub"], served.address))
    for bucket in ("work", "deferred"):
        move_state(home, mount_tag(EXPECTED["hub"], "default", bucket), mount_tag(served.address, "default", bucket))
    try:
        yield served
    finally:
        served.__exit__()


@contextmanager
def ann(hub: ServedHub) -> Iterator[PlainClient]:
    """A client with the account key that ann had."""
    key = EXPECTED["keys"]["account"]
    with PlainClient(hub.address, api_key=key["key"], api_secret=key["secret"]) as plain:
        yield plain


def own(facts: dict[str, Any]) -> dict[str, Any]:
    """What is expected of a mount of mine: what was the maker's, who was root, is mine."""
    mine = {"uid": os.getuid(), "gid": os.getgid()}
    return {path: {**fact, **{name: mine[name] for name in mine if fact[name] == 0}} for path, fact in facts.items()}


def files_of(facts: dict[str, Any]) -> dict[str, str]:
    """Path → SHA-256 of files and symlinks, as the Hub serves them."""
    found = {}
    for path, fact in facts.items():
        if "sha256" in fact:
            found[path] = fact["sha256"]
        elif "target" in fact:
            found[path] = hashlib.sha256(fact["target"].encode()).hexdigest()
    return found


def synced(home: Home, place: Path) -> bool:
    """Whether all of it is at the Hub now. One that was away is asked again after a pause."""
    return home.cli("sync", place, check=False).returncode == 0


def test_a_backlog_of_the_last_release_is_shown_and_pushed(home: Home, hub: ServedHub) -> None:
    """Changes that waited when the machine was updated are all there, with the Hub away and nothing but journal, cache and kept
    base to take them from; inode numbers, times and the list of conflicts are what they were; and then they go out."""
    place = home.root / "Work"
    place.mkdir()
    daemon = Foreground.start(home, "work", place=place)
    found, wanted = facts_of(place), own(EXPECTED["work"]["facts"])
    for path in RENUMBERED:
        assert found[path].pop("inode") and wanted[path].pop("inode")
    assert found == wanted
    copies = [Path(conflict["copy"]).name for conflict in daemon.ask("status")["conflicts"]]
    assert copies == [Path(conflict["copy"]).name for conflict in EXPECTED["work"]["conflicts"]]
    (place / "after the update").write_text("it can be written to")
    hub.start()
    eventually(lambda: synced(home, place), "the backlog is not pushed")
    with ann(hub) as plain:
        at_hub = contents_at_hub(plain, "work")
    assert at_hub.pop("after the update") == hashlib.sha256(b"it can be written to").hexdigest()
    assert at_hub == files_of(wanted)
    mounted = daemon.mounted()
    mounted.expect("starts from what it last listed")
    mounted.expect("changes wait here")
    assert daemon.stop() == 0
    mounted.check_log()


def test_deferred_changes_of_the_last_release_are_quarantined(home: Home, hub: ServedHub) -> None:
    """Changes that waited for blocks the Hub had lost are not forgotten by the update: they are named, and can be saved. So is what
    was cut short in the middle of a push."""
    hub.start()
    place = home.root / "Deferred"
    place.mkdir()
    daemon = Foreground.start(home, "deferred", place=place)
    eventually(lambda: synced(home, place), "the changes are not pushed")
    (bucket,) = daemon.ask("status")["buckets"]
    assert bucket["quarantined"] == [
        {"path": "folder/inside", "change": "attributes changed"},
        {"path": "other, moved", "change": "renamed from 'other'"},
    ]
    wanted = files_of(EXPECTED["deferred"]["facts"])
    assert files_of(facts_of(place)) == wanted
    with ann(hub) as plain:
        assert contents_at_hub(plain, "deferred") == wanted
    home.cli("recover", "--to", str(home.root / "out"))
    (changes,) = (home.root / "out").glob("*/changes.txt")
    assert [line[20:] for line in changes.read_text().splitlines()] == [
        "attributes changed 'folder/inside' mode=0o600",
        "renamed 'other' to 'other, moved'",
    ]
    (bucket,) = daemon.ask("status")["buckets"]
    assert bucket["quarantined"] == []
    assert daemon.stop() == 0


def test_the_embedded_hub_of_the_last_release_serves_its_buckets(home: Home) -> None:
    """Who never named a Hub finds the buckets of before the update on the mount, with the numbers they had."""
    unpack("hub", home)
    unpack("home", home)
    before = f"embedded {EXPECTED['root']}/data/bucketfs/hub"
    move_state(home, mount_tag(before, "embedded"), mount_tag(f"embedded {home.data}/hub", "embedded"))
    mounted = home.mount("--hub", "embedded")
    assert facts_of(mounted.path) == own(EXPECTED["embedded"])
    (mounted.path / "home/letters/second").write_text("written after the update")
    mounted.sync()
    mounted.umount()


def test_the_hub_serves_what_it_had(hub: ServedHub) -> None:
    """Every bucket, the private one too, has the content of before, for the account key of before."""
    hub.start()
    with ann(hub) as plain:
        found = {name: contents_at_hub(plain, name) for name in EXPECTED["buckets"]}
    assert found == EXPECTED["buckets"]


def test_sessions_keys_and_roles_hold(home: Home, hub: ServedHub) -> None:
    """After an update of the Hub nobody signs in again: session, organization, its key, a user's token and roles hold."""
    hub.start()
    assert home.cli("hub", "whoami").stdout.startswith("ann <ann@example.org> at ")
    assert "Sea-Labs" in home.cli("hub", "org", "ls").stdout
    assert home.cli("buck", "ls", "--profile", "sea").stdout.startswith("charts")
    assert home.cli("buck", "ls", "--org", "Sea-Labs").stdout.startswith("charts")
    identity = home.root / "alice.key"
    alice = ("--profile", "app", "--identity", identity)
    assert home.cli("buck", "ls", *alice).stdout.startswith("notes")
    assert home.cli("hub", "whoami", *alice).stdout.splitlines()[-1] == EXPECTED["keys"]["alice"]
    roles = json.loads(home.cli("buck", "roles", "ls", "plans/shared", "--json").stdout)
    assert EXPECTED["keys"]["alice"] in json.dumps(roles) and "writer" in json.dumps(roles)
    with grpc.insecure_channel(hub.address) as channel:
        app = EXPECTED["profiles"]["app"]
        caller = Caller(channel).using(**ApiKey(app["api_key"], app["api_secret"]).headers())
        caller = caller.using(authorization=f"bearer {EXPECTED['keys']['token']}")
        listed = caller.call("api.usersd.pb.APIService", "ListThreads", users_pb2.ListThreadsRequest())
    assert [thread.is_db for thread in listed.list] == [True]


def claims_of(link: str) -> dict[str, Any]:
    """What the token of a link says, but for its times."""
    payload = link.partition("token=")[2].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {name: value for name, value in found.items() if name not in ("iat", "exp")}


def test_links_of_a_private_bucket_stay(home: Home, hub: ServedHub) -> None:
    """A link that was handed out names the same bucket, path, Hub and owner after the update."""
    hub.settings["BUCKETFS_SERVE_GATEWAY_URL"] = "http://127.0.0.1:8006"
    hub.start()
    found = json.loads(home.cli("buck", "links", "secret", "--json").stdout)
    for name, link in EXPECTED["links"].items():
        assert found[name].partition("?")[0] == link.partition("?")[0]
        if "token=" in link:
            assert claims_of(found[name]) == claims_of(link)


def test_settings_and_keys_are_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.toml and credentials.toml with comments in them mean what they meant."""
    unpack("home", home)
    for name, value in home.environment().items():
        if name.startswith("XDG_"):
            monkeypatch.setenv(name, value)
    config = load_config(environ=home.environment())
    mount = config.mount
    assert (mount.cache_size_bytes, mount.memory_size_bytes, mount.drain_s) == (64 << 20, 16 << 20, 5.0)
    profiles = CredentialsFile(home.config / "credentials.toml", {}).profiles()
    assert profiles.keys() == EXPECTED["profiles"].keys()
    for name, table in EXPECTED["profiles"].items():
        assert profiles[name].hub == table["hub"]
        for key in table.keys() - {"hub", "thread"}:
            assert getattr(profiles[name].credentials, key) == table[key]


def test_a_watched_folder_goes_on_where_it_was(home: Home, hub: ServedHub) -> None:
    """``buck watch`` reads no file again that did not change. Other bytes are put under the recorded status of one: they would be
    pushed if it were read. A change on either side is carried."""
    top = home.root / "mirror"
    move_mirror(home, hub, top)
    unread = top / "plain"
    unread.write_bytes(b"FROM A CLIENT THAT KNOWS NO TIMES")
    as_recorded(home, hub, top)
    hub.start()
    with ann(hub) as plain:
        key = plain.enter("mirror")
        before = plain.buckets()["mirror"].path
        watch_once(home, top)
        assert plain.buckets()["mirror"].path == before
        assert contents_at_hub(plain, "mirror") == EXPECTED["buckets"]["mirror"]
        assert unread.read_bytes() == b"FROM A CLIENT THAT KNOWS NO TIMES"
        (top / "ours").write_text("changed in the folder")
        plain.push_paths(key, {"folder/theirs": b"changed at the Hub"})
        watch_once(home, top)
        found = contents_at_hub(plain, "mirror")
    assert (top / "folder/theirs").read_bytes() == b"changed at the Hub"
    assert found["ours"] == hashlib.sha256(b"changed in the folder").hexdigest()


def watch_once(home: Home, top: Path) -> subprocess.CompletedProcess[str]:
    return home.cli("buck", "watch", "--once", top, "mirror")


def watch_name(place: str) -> str:
    """The file with what is remembered of a folder for one Hub, account and bucket."""
    name = tag(f"{place}\ndefault\nmirror")
    return f"{name}.db"


def mirror_state(home: Home, hub: ServedHub, top: Path) -> Path:
    return home.state / "watch" / tag(str(top)) / watch_name(hub.address)


def move_mirror(home: Home, hub: ServedHub, top: Path) -> None:
    """Give what is remembered of the folder the name that it has for another path and another address of the Hub."""
    before = home.state / "watch" / tag(EXPECTED["mirror"]["top"])
    folder = before.rename(home.state / "watch" / tag(str(top)))
    (folder / watch_name(EXPECTED["hub"])).rename(mirror_state(home, hub, top))


def as_recorded(home: Home, hub: ServedHub, top: Path) -> None:
    """Set the times of modification that were recorded, and record the inode numbers and change times that unpacking gave: on the
    disk that the files were on these had stayed."""
    for path, fact in EXPECTED["mirror"]["facts"].items():
        os.utime(top / path, ns=(fact["mtime_ns"], fact["mtime_ns"]))
    database = sqlite3.connect(mirror_state(home, hub, top))
    with database:
        for path in ["", *EXPECTED["mirror"]["facts"]]:
            status = (top / path).lstat()
            folder, name = os.path.split(os.fsencode(path))
            changed = database.execute(
                "update seen set inode = ?, mtime_ns = ?, ctime_ns = ? where folder = ? and name = ?",
                (status.st_ino - (1 << 63), status.st_mtime_ns, status.st_ctime_ns, folder, name),
            ).rowcount
            assert changed or not path, f"{path} is not recorded"
        (recorded,) = database.execute("select value from meta where key = 'top'").fetchone()
        device, _, system = json.loads(recorded)
        recorded = json.dumps([device, top.stat().st_ino, system])
        database.execute("update meta set value = ? where key = 'top'", (recorded,))
    database.close()
