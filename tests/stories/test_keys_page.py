"""docs/keys.md, as a new user follows it: its commands are run in one shell, and it must show what the page shows."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from support.home import Home, program

PAGE = Path(__file__).resolve().parents[2] / "docs/keys.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- end of block ---"


def steps() -> list[tuple[str, str]]:
    """Each block of commands with what it must print, which may be nothing."""
    found: list[tuple[str, str]] = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            found.append((text, ""))
        else:
            commands, shown = found[-1]
            assert not shown, f"two outputs after one block:\n{text}"
            found[-1] = (commands, text)
    return found


def pattern(line: str) -> str:
    """A line of the page as an expression: … stands for anything, and one space for any number of them."""
    parts = [r"\s+".join(map(re.escape, re.split(r" +", part))) for part in line.split("…")]
    return ".*".join(parts)


def assert_shown(wanted: str, printed: str, commands: str) -> None:
    """Every line of the page must be there, in order."""
    lines = iter(printed.splitlines())
    for line in wanted.splitlines():
        if line.strip() in ("", "…"):
            continue
        assert any(re.fullmatch(pattern(line), found.rstrip()) for found in lines), (
            f"{line!r} is not shown by\n{commands}\nbut\n{printed}"
        )


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.timeout(300)
def test_the_page_can_be_followed(home: Home) -> None:
    """A new user who types the commands of docs/keys.md would see errors, or something else than the page shows."""
    folder = home.root / "desk"
    tools = home.root / "tools"
    folder.mkdir()
    tools.mkdir()
    (tools / "bucketfs").write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in program()) + ' "$@"\n')
    (tools / "bucketfs").chmod(0o755)
    story = steps()
    script = "set -eu\n" + "".join(f"{commands}\necho '{MARK}'\n" for commands, _ in story)
    environment = home.environment()
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "HUB": free_address()}
    # Into files: what the page leaves running when it fails would hold a pipe open for ever.
    with (home.root / "said").open("w+") as said, (home.root / "complained").open("w+") as complained:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=complained,
            stdin=subprocess.DEVNULL,
            timeout=280,
        )
    stdout, stderr = (home.root / "said").read_text(), (home.root / "complained").read_text()
    assert done.returncode == 0, f"{stdout}\n{stderr}"
    printed = stdout.split(MARK + "\n")
    assert len(printed) == len(story) + 1
    for (commands, wanted), output in zip(story, printed, strict=False):
        assert_shown(wanted, output, commands)
    assert "Permission denied" in stderr
    for secret in ("alice.key", "bob.key"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
        assert (folder / secret).read_text().strip() not in stdout + stderr
    assert not home.pids("mount"), "a mount lives on"
