"""What ``bucketfs buck watch`` prints: a line for each round that did something, and for each problem."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from bucketfs.cli.printing import clock_text, print_json, print_line, quoted_name
from bucketfs.cli.progress import ProgressLine
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError
from bucketfs.mirror import Round
from bucketfs.transfer import Figures


class WatchOutput:
    """Lines for people, or of JSON. What was printed before and has not changed is not printed again."""

    def __init__(self, folder: Path, bucket: str, as_json: bool, progress: ProgressLine | None = None) -> None:
        self._folder = folder
        self._bucket = bucket
        self._as_json = as_json
        self._left_out: set[tuple[str, str]] = set()
        self._trouble = ""
        self._figures: Figures | None = None
        self._progress = progress or ProgressLine(quiet=as_json, redrawn=False)

    def begun(self, hub: str) -> None:
        """The first line."""
        folder, bucket = quoted_name(str(self._folder)), quoted_name(self._bucket)
        self._line(f"{folder} and bucket {bucket} of {hub} are kept the same", "begun", hub=hub)

    def progress(self, figures: Figures) -> None:
        """A line now and then while a round takes long."""
        if figures is not self._figures:
            # Another round has just begun.
            self._figures = figures
            self._progress.restart()
        self._progress.show(f"{clock_text()} {figures.files} files, now {quoted_name(figures.path)}", figures.bytes_done)

    def round(self, done: Round, *, always: bool = False) -> None:
        """The line of a round, when it did something or ``always`` is set."""
        self._progress.restart()
        if self._trouble:
            self._trouble = ""
            self._line("it works again", "again")
        if done.went_back:
            self._line("the Hub went back to an older state; what it lost was sent to it again", "went_back")
        if done.did_something or always:
            self._line(_summary(done), "round", **_round_document(done))
        left_out = {(item.path, item.reason) for item in (*done.skipped, *done.applied.left)}
        for path, reason in sorted(left_out - self._left_out):
            self._line(f"left out: {quoted_name(path)}: {reason}", "left", path=path, reason=reason)
        self._left_out = left_out

    def trouble(self, error: BucketfsError, retry_s: float) -> None:
        """A round failed; the next attempt is in ``retry_s``."""
        text = f"{error}: {error.hint}" if error.hint else str(error)
        if text != self._trouble:
            self._trouble = text
            self._line(f"waiting: {text}", "waiting", reason=text, retry_s=round(retry_s, 1))

    def note(self, text: str) -> None:
        """Something else that a user should know."""
        self._line(text, "note", said=text)

    def _line(self, text: str, event: str, **facts: Any) -> None:
        if self._as_json:
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            print_json({"event": event, "at": now, **facts}, indent=None)
        else:
            print_line(f"{clock_text()} {text}")


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
    parts += [f"conflict copy: {quoted_name(path)}" for path in done.conflicts]
    return ", ".join(parts) or "nothing to do"


def _round_document(done: Round) -> dict[str, Any]:
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
