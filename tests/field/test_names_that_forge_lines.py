"""Names that other people chose: with newlines that begin lines of their own, with escapes that rewrite the terminal.

Lines for people quote them as ``ls`` does, and stay lines. JSON has them as they are.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.home import Home, program
from support.waiting import eventually

from bucketfs.cli.status_text import status_lines
from bucketfs.quoting import in_list, quoted, visible

FORGED = "a\n2026-01-01 00:00:00 remote removed forged\x1b[2J"
QUOTED = "'a'$'\\n''2026-01-01 00:00:00 remote removed forged'$'\\033''[2J'"
NAMES = [
    "plain",
    "two words",
    "it's",
    "it's two",
    '"said"',
    "'''",
    "a\nb",
    "\n",
    "\t\ttab",
    "\x1b]0;title\x07",
    "漢字",
    "é'",
    "\udcff\udcfe",
    "\x85c1",
    "-rf",
    "#hash",
    "~home",
    "{",
    "a{b",
    "$(rm)",
    "back\\slash",
    "a=b",
    "ends\n",
    "\nbegins",
]


def test_names_are_quoted_as_ls_does(tmp_path: Path) -> None:
    """Names would be shown in a way that a user of `ls` misreads."""
    for name in NAMES:
        file = tmp_path / name
        file.touch()
        shown = subprocess.run(
            ["ls", "-d", "--quoting-style=shell-escape", "--", name],
            cwd=tmp_path,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            check=True,
        )
        assert quoted(name) + "\n" == shown.stdout.decode()


def test_a_shell_reads_back_what_is_quoted() -> None:
    """A name that is copied from a list into a shell would run as a command, or name another file."""
    names = [*NAMES, "", "a'\nb", "\t'\"\t", FORGED, "\u202egnp.exe"]
    words = " ".join(quoted(name) for name in names)
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], stdout=subprocess.PIPE, check=True).stdout
    assert [os.fsdecode(name) for name in said.split(b"\0")[:-1]] == names
    assert all(quoted(name).isprintable() for name in names)


def test_a_program_gets_names_as_they_are_as_far_as_they_are_lines() -> None:
    """A script would read names that do not exist, or take two files for one."""
    assert [in_list(name) for name in ("two words", "$x", "\udcff", "it's")] == ["two words", "$x", "\udcff", "it's"]
    # What looks quoted is quoted, so that no two names are listed alike.
    assert in_list("a\nb") != in_list(in_list("a\nb"))


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    """In a terminal without Unicode a list of names would end in a traceback."""
    assert quoted("漢", "ascii") == "''$'\\346\\274\\242'"
    assert quoted("é", "iso-8859-1") == "é" and visible("é漢", "iso-8859-1") == "é\\346\\274\\242"


@pytest.fixture
def full(home: Home) -> Home:
    """A home with a mounted bucket that has a hostile name in it."""
    mounted = home.mount("home")
    (mounted.path / FORGED).write_text("x")
    mounted.sync()
    return home


def on_a_terminal(home: Home, *words: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*program(), *words], stdin=theirs, stdout=theirs, stderr=theirs, env=home.environment(), timeout=60
        )
        assert done.returncode == 0
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(theirs)


def test_lists_events_and_errors(full: Home) -> None:
    """A file name chosen by another person would clear the screen, or add lines that look like ours."""
    place = full.root / "Buckets"
    command = [*program(), "events", str(place)]
    with subprocess.Popen(command, env=full.environment(), stdout=subprocess.PIPE, text=True, bufsize=1) as following:
        assert following.stdout is not None
        assert " start home at " in following.stdout.readline()
        (place / FORGED).rename(place / (FORGED + "2"))
        (place / "two words").write_text("y")
        full.cli("sync", place)
        lines = [following.stdout.readline().split(" ", 2)[2] for _ in range(3)]
        following.kill()
    moved = f"local renamed {QUOTED} -> '{place}/{QUOTED[1:-1]}2'\n"
    assert sorted(lines) == sorted([f"local added '{place}/two words'\n", f"local attributes {place}\n", moved])
    listed = full.cli("buck", "ls", "home").stdout
    assert listed.splitlines() == [f"{QUOTED[:-1]}2'", "two words"]
    assert on_a_terminal(full, "buck", "ls", "home").splitlines() == [f"{QUOTED[:-1]}2'", "'two words'"]
    names = [row["name"] for row in json.loads(full.cli("buck", "ls", "--json", "home").stdout)]
    assert names == [FORGED + "2", "two words"]
    said = full.complaint("buck", "cat", "home/\x1b[2Jnone")
    assert "\x1b" not in said and "home/'$'\\033''[2Jnone'" in said


def test_status_has_no_line_of_somebody_else() -> None:
    """A bucket's name could make `status` show lines that bucketfs never wrote."""

    def hostile(field: str) -> Sequence[str]:
        bucket = {"name": FORGED, "pending_count": 1, "refused": [{"path": FORGED, "reason": "no"}]}
        document = {"mountpoint": "/m", "bucket": FORGED, "hub": "h", "buckets": [bucket], "unopened": [bucket]}
        return [visible(line) for line in status_lines({**document, field: document.get(field)}, 0)]

    lines = hostile("buckets")
    assert all(line.isprintable() for line in lines)
    assert sum(QUOTED in line for line in lines) == 5, lines


def test_a_log_has_no_line_of_somebody_else(home: Home) -> None:
    """A name could write lines of its own into the log, or escape sequences into the terminal that shows it."""
    with_name = home.root / f"not a config {FORGED}"
    with_name.write_text("[mount]\npoll = 'never'\n")
    home.extra["BUCKETFS_CONFIG"] = str(with_name)
    said = home.complaint("mount", home.root / "M")
    assert "\x1b" not in said and "forged\\033[2J" in said
    eventually(lambda: not home.pids("mount"), "the daemon that could not start is still there")
