"""What ``bucketfs buck watch`` prints: a line for each round that did something, and for what stands in the way."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.printing import named, say
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError
from bucketfs.mirror import Round
from bucketfs.transfer import Figures

PROGRESS_PERIOD_S = 10.0


class WatchShown:
    """Lines for people, or of JSON. What was said before and is so still is not said again."""

    def __init__(self, top: Path, bucket: str, as_json: bool) -> None:
        self._top = top
        self._bucket = bucket
        self._as_json = as_json
        self._left: set[tuple[str, str]] = set()
        self._trouble = ""
        self._progress_s = time.monotonic()
        self._figures: Figures | None = None

    def begun(self, hub: str) -> None:
        """The first line."""
        self._line(f"{named(str(self._top))} and bucket {named(self._bucket)} of {hub} are kept the same", "begun", hub=hub)

    def progress(self, figures: Figures) -> None:
        """A line now and then while a round takes long."""
        if figures is not self._figures:
            # Another round, and it has just begun.
            self._figures, self._progress_s = figures, time.monotonic()
        if not self._as_json and time.monotonic() - self._progress_s >= PROGRESS_PERIOD_S:
            self._progress_s = time.monotonic()
            say(f"{_clock()} {figures.files} files, {figures.bytes_done} bytes: {named(figures.path)}", err=True)

    def round(self, done: Round, *, always: bool = False) -> None:
        """The line of a round, if it did something or ``always``."""
        self._progress_s = time.monotonic()
        if self._trouble:
            self._trouble = ""
            self._line("it works again", "again")
        if done.went_back:
            self._line("the Hub went back to an older state: what it lost was given to it again", "went_back")
        left = {(item.path, item.reason) for item in (*done.skipped, *done.applied.left)}
        if done.did_something or always:
            self._line(_summary(done), "round", **_facts(done))
        for path, reason in sorted(left - self._left):
            self._line(f"left out: {named(path)}: {reason}", "left", path=path, reason=reason)
        self._left = left

    def trouble(self, error: BucketfsError, retry_s: float) -> None:
        """Something stands in the way, and will be tried again."""
        text = f"{error}: {error.hint}" if error.hint else str(error)
        if text != self._trouble:
            self._trouble = text
            self._line(f"waiting: {text}", "waiting", reason=text, retry_s=round(retry_s, 1))

    def say(self, text: str) -> None:
        """A word."""
        self._line(text, "note", said=text)

    def _line(self, text: str, event: str, **facts: Any) -> None:
        if self._as_json:
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            click.echo(json.dumps({"event": event, "at": now, **facts}))
        else:
            say(f"{_clock()} {text}")


def _clock() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def _summary(done: Round) -> str:
    parts = []
    if done.pushed:
        parts.append(f"{done.pushed} changed at the Hub ({done.figures.sent.bytes_sent} bytes sent)")
    if done.applied.written:
        parts.append(f"{done.applied.written} written here")
    if done.applied.removed:
        parts.append(f"{done.applied.removed} removed here")
    if done.sending or done.applied.arriving:
        parts.append(f"{done.sending + done.applied.arriving} large on their way")
    parts += [f"conflict copy: {named(path)}" for path in done.conflicts]
    return ", ".join(parts) or "nothing to do"


def _facts(done: Round) -> dict[str, Any]:
    return {
        "files": done.figures.files,
        "unchanged": done.figures.unchanged,
        "pushed": done.pushed,
        "bytes_sent": done.figures.sent.bytes_sent,
        "written": done.applied.written,
        "removed": done.applied.removed,
        "conflicts": done.conflicts,
        "skipped": [{"path": item.path, "reason": item.reason} for item in done.skipped],
        "left": [{"path": item.path, "reason": item.reason} for item in done.applied.left],
        "sending": done.sending,
        "arriving": done.applied.arriving,
        "root": cid_text(done.root) if done.root else None,
    }
