"""What comes from the machine may be any bytes: host name, folders, arguments, variables; and the locale may be any.

Names at a Hub are UTF-8 whatever the locale says; it only decides what a terminal can show.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.foreground import Foreground
from support.home import Home, Watchdog, program
from support.homes import patience_s
from support.served import ServedHub

from bucketfs.vfs import conflict_name

KANJI = "漢字"
NOT_UTF8 = os.fsdecode(b"\xff\xfe %20?#\n")
BY_BYTES = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale C, and Python told to take it at its word, as it takes ISO-8859-1 (which few machines have)."""
LATIN = {"PYTHONIOENCODING": "iso-8859-1"}
"""And this for what is printed."""


@pytest.fixture
def odd_home(stage: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    """A home all folders of which have bytes in their paths that are no text, and mean something in URLs."""
    home = Home(stage / f"odd{NOT_UTF8}")
    with Watchdog(home, patience_s(request)):
        yield home
    home.end()


def test_a_home_that_is_no_text(odd_home: Home) -> None:
    """Who has a folder in their path that is not UTF-8 could not mount, or `status` would end in a traceback."""
    mounted = odd_home.mount()
    (mounted.path / "home" / KANJI).write_text("x")
    mounted.sync()
    assert mounted.status()["mountpoint"] == str(mounted.path)
    said = odd_home.cli("status").stdout
    assert "\\377\\376" in said and said.isprintable() is False and "\udcff" not in said
    assert odd_home.cli("buck", "ls", "home").stdout == f"{KANJI}\n"
    odd_home.cli("buck", "pull", "home", odd_home.root / "copy")
    assert (odd_home.root / "copy" / KANJI).read_text() == "x"
    mounted.umount()


def test_names_in_any_locale(home: Home) -> None:
    """In another locale, as in cron, files and buckets with non-ASCII names could not be pushed, listed or read."""
    home.extra.update(BY_BYTES)
    folder = home.root / "d"
    folder.mkdir()
    (folder / KANJI).write_text("x")
    (folder / os.fsdecode(b"\xff")).write_text("it is left out, and the rest is done")
    home.cli("buck", "create", f"b{KANJI}")
    pushed = home.cli("buck", "push", "--json", folder, f"b{KANJI}", check=False)
    assert pushed.returncode == 1 and [item["path"] for item in json.loads(pushed.stdout)["skipped"]] == ["\udcff"]
    assert home.cli("buck", "ls", f"b{KANJI}").stdout == f"{KANJI}\n"
    assert [row["name"] for row in json.loads(home.cli("buck", "ls", "--json", f"b{KANJI}").stdout)] == [KANJI]
    assert home.cli("buck", "cat", f"b{KANJI}/{KANJI}").stdout == "x"
    # A mount stands where its bytes say, whatever locale it was started and is asked in.
    mounted = home.mount(where=home.root / f"M{KANJI}")
    assert (mounted.path / f"b{KANJI}" / KANJI).read_text() == "x"
    home.extra = LATIN
    assert home.cli("buck", "ls", f"b{KANJI}").stdout == "\\346\\274\\242\\345\\255\\227\n"
    assert mounted.status()["mountpoint"] == str(mounted.path)
    mounted.umount()


def test_arguments_that_are_no_text(home: Home) -> None:
    """A mistyped argument that is not UTF-8 would end in a traceback."""
    for words in (["buck", "create", "\udcff"], ["buck", "cat", "home/\udcff"]):
        assert home.complaint(*words).startswith("bucketfs: \\377 is not UTF-8"), words
    assert "no bucket" in home.complaint("buck", "ls", "\udcff")
    (home.root / "M").mkdir()
    assert "\\377 is not UTF-8" in home.complaint("mount", "\udcff", home.root / "M")
    assert "\\377: 'bucketfs status' lists" in home.complaint("status", home.root / "\udcff")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("plain", "plain"),
        ("k\udcf6nig", "k_nig"),
        ("a/b\n\x1b", "a_b__"),
        ("königin", "königin"),
        ("\udcff" * 64, "_" * 64),
        ("漢" * 64, "漢" * 21),
        ("", "unnamed"),
    ],
)
def test_host_names(host: str, shown: str) -> None:
    """On a machine with an odd host name the copy of a conflict could not be made, and its version would be lost."""
    assert conflict_name(b"x.txt", host, "T", lambda name: False) == f"x (conflict {shown} T).txt".encode()
    assert len(conflict_name(b"x" * 250 + b".txt", host, "T", lambda name: False)) <= 255


if os.geteuid() == 0:
    NAMED = "import os, socket, sys; socket.sethostname(b'k\\xf6nig'); os.execv(sys.argv[1], sys.argv[1:])"

    def test_a_conflict_on_a_host_whose_name_is_no_text(home: Home) -> None:
        """On such a machine `sync` would fail with the first conflict, and the version written there would not be kept."""
        with ServedHub(home, home.data / "served") as hub:
            home.extra.update(hub.account("ann").variables())
            home.cli("buck", "create", "b")
            place = home.root / "M"
            place.mkdir()
            # Only the host's name is another one: it mounts where the others see it.
            command = ["unshare", "--uts", sys.executable, "-c", NAMED, *program()]
            mount = Foreground.start(home, "--poll=1h", "b", command=command, place=place)
            (place / "f.txt").write_text("base")
            mount.ask("sync")
            with (place / "f.txt").open("w") as mine:
                mine.write("mine")
                (home.root / "theirs").write_text("theirs")
                home.cli("buck", "push", home.root / "theirs", "b/f.txt")
            mount.ask("sync")
            assert sorted(path.name[:20] for path in place.iterdir()) == ["f (conflict k_nig 20", "f.txt"]
            assert mount.stop() == 0
