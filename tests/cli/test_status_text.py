"""What people read."""

from __future__ import annotations

from typing import Any

from bucketfs.cli.status_text import status_lines

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
    """A user sees at a glance that all changes are at the Hub."""
    assert list(status_lines(DOCUMENT, 1090.0)) == [
        "/m: all buckets of the embedded Hub",
        "  Hub: connected, heard of 2.0 s ago",
        "  changes: all are at the Hub",
        "  cache: 2.0 KiB on disk, 10 B in memory",
        "  running for 1 min 30 s, process 7",
    ]


def test_problems_are_shown() -> None:
    """What waits, why, until when: else a user unmounts a laptop with changes that are nowhere else."""
    bucket = {"name": "home", "pending_count": 3, "pending_bytes": 1 << 20, "oldest_age_s": 40, "error": "the Hub is away"}
    document = DOCUMENT | {
        "connection": {"state": "away", "error": "no route to it"},
        "pending_count": 3,
        "pending_bytes": 1 << 20,
        "oldest_age_s": 40,
        "conflicts": [{"original": "/m/home/a.txt", "copy": "/m/home/a (conflict).txt"}],
        "buckets": [bucket | {"next_try_s": 1095.0}],
    }
    text = "\n".join(status_lines(document, 1090.0))
    assert "  Hub: away: no route to it\n" in text
    assert "  changes: 3 (1.0 MiB) wait, the oldest for 40 s\n" in text
    assert "not pushed: the Hub is away; next try in 5.0 s\n" in text
    assert "  conflicts: 1, both versions are kept; 'bucketfs conflicts' lists them\n" in text


def test_quarantined_changes_are_named() -> None:
    """A user must hear of changes that can never be applied, and how to save them."""
    bucket = {
        "name": "home",
        "quarantined": [{"path": "d/f", "change": "written"}, {"path": "", "change": "attributes changed"}],
    }
    text = "\n".join(status_lines(DOCUMENT | {"buckets": [bucket]}, 1090.0))
    assert "blocks that changes of 2 paths were made on are lost; 'bucketfs recover' saves the changes:\n" in text
    assert "    d/f: written\n    (the bucket itself): attributes changed\n" in text


def test_a_daemon_of_another_version_is_shown_as_well() -> None:
    """After an update a daemon of the old version still runs."""
    assert list(status_lines({"mountpoint": "/m", "trouble": "its process is gone"}, 0)) == ["/m: its process is gone"]
    assert next(status_lines({"mountpoint": "/m", "hub": "h"}, 0)) == "/m: all buckets of h"
