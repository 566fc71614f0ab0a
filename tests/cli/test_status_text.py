"""What people read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bucketfs.cli.buck.watch_output import PROGRESS_PERIOD_S, WatchShown
from bucketfs.cli.status_text import Ticker, size_text, status_lines, time_text
from bucketfs.transfer import Figures

DOCUMENT: dict[str, Any] = {
    "mountpoint": "/m",
    "bucket": "",
    "hub": "the embedded Hub",
    "pid": 7,
    "started_s": 1000.0,
    "connection": {"state": "connected", "error": None, "heard_age_s": 2.0},
    "pending_count": 0,
    "conflicts": [],
    "buckets": [{"name": "home", "pending_count": 0, "error": None, "pushing": None}],
    "cache": {"disk_bytes": 2048, "memory_bytes": 10},
}


def test_a_calm_mount() -> None:
    assert list(status_lines(DOCUMENT, 1090.0)) == [
        "/m: all buckets of the embedded Hub",
        "  Hub: connected, heard of 2.0 s ago",
        "  changes: all are at the Hub",
        "  cache: 2.0 KiB on disk, 10 B in memory",
        "  running for 1 min 30 s, process 7",
    ]


def test_what_is_wrong_is_said() -> None:
    bucket = {"name": "home", "pending_count": 3, "pending_bytes": 1 << 20, "oldest_age_s": 40, "error": "the Hub is away"}
    document = DOCUMENT | {
        "connection": {"state": "away", "error": "no route to it"},
        "pending_count": 3,
        "pending_bytes": 1 << 20,
        "oldest_age_s": 40,
        "conflicts": [{"original": "/m/home/a.txt", "copy": "/m/home/a (conflict).txt"}],
        "buckets": [bucket | {"next_try_s": 1095.0}],
    }
    said = "\n".join(status_lines(document, 1090.0))
    assert "  Hub: away: no route to it\n" in said
    assert "  changes: 3 (1.0 MiB) wait, the oldest for 40 s\n" in said
    assert "not pushed: the Hub is away; next try in 5.0 s\n" in said
    assert "  conflicts: 1, both versions are kept; 'bucketfs conflicts' lists them\n" in said


def test_a_daemon_that_says_little_is_shown_as_well() -> None:
    assert list(status_lines({"mountpoint": "/m", "trouble": "its process is gone"}, 0)) == ["/m: its process is gone"]
    assert next(status_lines({"mountpoint": "/m", "hub": "h"}, 0)) == "/m: all buckets of h"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (1 << 52, "4096.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (12.3, "12 s"), (60, "1 min"), (3661, "1 h 1 min 1 s"), (90000, "1 d 1 h")]
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_progress_is_lines_now_and_then_off_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("bucketfs.cli.status_text.time.monotonic", lambda: now)
    with Ticker("/m") as ticker:
        for _ in range(20):
            now += 1
            ticker.show({"text": "pushing", "done_bytes": 1 << 20, "total_bytes": 4 << 20})
    said = capsys.readouterr().err.splitlines()
    assert said == ["/m: pushing 1.0 MiB of 4.0 MiB (25 %)"] * 4


def test_progress_writes_over_itself_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Ticker("/m") as ticker:
        ticker.show({"text": "a long text"})
        ticker.show({"text": "short"})
    said = capsys.readouterr().err
    assert said.startswith("\r/m: a long text\r/m: short ") and said.endswith(" \r") and "\n" not in said


def test_a_round_of_a_watch_tells_its_progress_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("bucketfs.cli.buck.watch_output.time.monotonic", lambda: now_s[0])
    shown = WatchShown(Path("/d"), "b", as_json=False)
    now_s[0] += 1000
    figures = Figures()
    shown.progress(figures)
    assert capsys.readouterr().err == "", "nothing happened for long, but this round has just begun"
    now_s[0] += PROGRESS_PERIOD_S
    shown.progress(figures)
    assert "0 files" in capsys.readouterr().err
