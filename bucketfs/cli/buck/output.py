"""What the commands about buckets print: tables, JSON, progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from bucketfs.cli.printing import listed, named, say
from bucketfs.client import BucketInfo, PathItem
from bucketfs.dag import RAW, cid_text, codec_of, node_info
from bucketfs.errors import Refused
from bucketfs.keys import thread_text
from bucketfs.remote import NodeSource
from bucketfs.transfer import Figures
from bucketfs.types import Kind

NODES_PER_ASK = 32
"""Root blocks asked for at once by ``ls -l``: that of a small file is all of it."""

LINE_PERIOD_S = 10.0
"""How often progress is a line where there is no terminal."""


def show_bucket(info: BucketInfo, as_json: bool) -> None:
    """One bucket."""
    if as_json:
        click.echo(json.dumps(_bucket_facts(info)))
        return
    for name, value in _bucket_facts(info).items():
        # People get a time and no number of nanoseconds.
        say(f"{name.removesuffix('_ns').replace('_', ' '):<12}{_human(value)}")


def show_buckets(buckets: Sequence[BucketInfo], as_json: bool) -> None:
    """A table of buckets."""
    ordered = sorted(buckets, key=lambda info: (info.name, info.created_at_ns))
    if as_json:
        click.echo(json.dumps([_bucket_facts(info) for info in ordered]))
        return
    for info in ordered:
        private = ["private"] if info.private else []
        say(listed(info.name) if info.name else "-", info.key, _time(info.updated_at_ns), *private)


def _bucket_facts(info: BucketInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "key": info.key,
        "root": cid_text(info.root),
        "thread": thread_text(info.thread),
        "owner": info.owner,
        "private": info.private,
        "created_at_ns": info.created_at_ns,
        "updated_at_ns": info.updated_at_ns,
    }


def row_of(item: PathItem) -> dict[str, Any]:
    """What the Hub's listing says of an entry."""
    kind = Kind.DIRECTORY.value if item.is_directory else Kind.FILE.value
    row = {"name": item.name, "kind": kind, "cid": cid_text(item.cid), "dag_size_bytes": item.tsize}
    return row | {"updated_at_ns": item.updated_at_ns}


async def add_attributes(source: NodeSource, items: Sequence[PathItem], rows: Sequence[dict[str, Any]]) -> None:
    """Adds to the rows what only the root blocks say."""
    for start in range(0, len(items), NODES_PER_ASK):
        window = items[start : start + NODES_PER_ASK]
        nodes = await source.get_many([item.cid for item in window if codec_of(item.cid) != RAW])
        for item, row in zip(window, rows[start : start + NODES_PER_ASK], strict=True):
            if item.cid not in nodes:
                row["size_bytes"] = item.tsize
                continue
            info = node_info(item.cid, nodes[item.cid])
            row |= {"kind": info.kind.value, "mode": info.attributes.mode, "mtime_ns": info.attributes.mtime_ns}
            row["size_bytes"] = info.size_bytes
            if info.target is not None:
                row["target"] = info.target.decode(errors="surrogateescape")


async def symlink_target(source: NodeSource, item: PathItem) -> str | None:
    """Where an entry leads to that is a symlink; None for another."""
    if item.is_directory or codec_of(item.cid) == RAW:
        return None
    target = node_info(item.cid, await source.get(item.cid)).target
    return None if target is None else target.decode(errors="surrogateescape")


_LETTERS = {Kind.DIRECTORY.value: "d", Kind.SYMLINK.value: "l", Kind.FILE.value: "-"}


def show_rows(rows: Sequence[dict[str, Any]], long: bool, as_json: bool) -> None:
    """The entries of a folder."""
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        name = listed(row["name"]) + ("/" if row["kind"] == Kind.DIRECTORY.value else "")
        if not long:
            say(name)
            continue
        mode = row.get("mode")
        modes = f"{_LETTERS[row['kind']]}{'    ' if mode is None else f'{mode:04o}'}"
        size = str(row.get("size_bytes", row["dag_size_bytes"]))
        target = f" -> {listed(row['target'])}" if "target" in row else ""
        own_ns = row.get("mtime_ns")
        shown = _time(row["updated_at_ns"]) if own_ns is None else _date(own_ns)
        say(f"{modes} {size:>14} {shown} {name}{target}")


def _human(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _time(value) if isinstance(value, int) else str(value)


def _time(time_ns: int) -> str:
    return _date(time_ns) if time_ns else "-"


def _date(time_ns: int) -> str:
    seconds = time_ns // 1_000_000_000
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ")
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"  # outside the calendar, as GNU date takes it


def conclude(figures: Figures, as_json: bool) -> None:
    """The last word of a push or pull. Raises Refused when something was left out."""
    if as_json:
        shown = {
            "root": cid_text(figures.root) if figures.root else None,
            "files": figures.files,
            "folders": figures.folders,
            "symlinks": figures.symlinks,
            "unchanged": figures.unchanged,
            "removed": figures.removed,
            "bytes_done": figures.bytes_done,
            "bytes_sent": figures.sent.bytes_sent,
            "skipped": [{"path": item.path, "reason": item.reason} for item in figures.skipped],
        }
        click.echo(json.dumps(shown))
    else:
        say(_summary(figures))
        for item in figures.skipped:
            say(f"left out: {named(item.path)}: {item.reason}", err=True)
    if figures.skipped:
        raise Refused(f"{len(figures.skipped)} left out, the rest is done")


def _summary(figures: Figures) -> str:
    parts = [f"{figures.files} files", f"{figures.folders} folders", f"{figures.unchanged} unchanged"]
    if figures.symlinks:
        parts.append(f"{figures.symlinks} symlinks")
    if figures.removed:
        parts.append(f"{figures.removed} removed")
    if figures.sent.bytes_sent:
        parts.append(f"{figures.sent.bytes_sent} bytes sent")
    return ", ".join(parts)


class Shown:
    """Progress on standard error: a moving line on a terminal, else a line now and then."""

    def __init__(self, doing: str, quiet: bool) -> None:
        self._doing = doing
        self._quiet = quiet
        self._said_s = time.monotonic()
        self._progress: Progress | None = None
        if sys.stderr.isatty() and not quiet:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
            self._progress = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task(doing, total=None)

    def __enter__(self) -> Shown:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, figures: Figures) -> None:
        """Shows the figures as they are now."""
        text = f"{self._doing}: {figures.files + figures.symlinks} files"
        if self._progress is not None:
            self._progress.update(self._task, description=text, completed=figures.bytes_done)
        elif not self._quiet and time.monotonic() - self._said_s >= LINE_PERIOD_S:
            self._said_s = time.monotonic()
            say(f"{text}, {figures.bytes_done} bytes", err=True)
