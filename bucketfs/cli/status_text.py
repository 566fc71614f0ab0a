"""The lines of ``bucketfs status`` for people: a pure function of the status document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bucketfs.cli.printing import duration_text, quoted_name, size_text

FEW_DESCRIPTORS = 64
"""With fewer free a mount may soon be unable to open a draft, a cached block or a connection."""


def status_lines(document: Mapping[str, Any], now_s: float) -> Iterator[str]:
    """The status document of a mount, for people: how it stands first, then what waits and what is wrong, then figures.

    The daemon may be of another version: what it does not say is left out. ``now_s`` counts seconds since 1970.
    """
    if "trouble" in document:
        yield f"{_name(document, 'mountpoint')}: {document['trouble']}"
        return
    what = f"bucket {_name(document, 'bucket')}" if document.get("bucket") else "all buckets"
    mode = ", read-only" if document.get("read_only") else ""
    yield f"{_name(document, 'mountpoint')}: {what} of {document.get('hub')}{mode}"
    if document.get("ends_s"):
        yield f"  it is ending: the last changes are pushed, for up to {duration_text(max(0.0, document['ends_s'] - now_s))} more"
    connection = document.get("connection") or {}
    if connection.get("error"):
        yield f"  Hub: {connection.get('state')}: {connection['error']}"
    elif connection:
        heard = connection.get("heard_age_s")
        ago = f", heard of {duration_text(heard)} ago" if heard is not None else ""
        yield f"  Hub: {connection.get('state')}{ago}"
    for line in document.get("settings") or ():
        yield f"  settings: {line}"
    if connection.get("clock"):
        yield f"  clock: {connection['clock']}"
    yield f"  changes: {_waiting(document)}"
    for bucket in document.get("buckets") or ():
        yield from _bucket_lines(bucket, now_s)
    for bucket in document.get("unopened") or ():
        again = bucket.get("next_try_s")
        when = f"; next try in {duration_text(max(0.0, again - now_s))}" if again is not None else ""
        count = bucket.get("pending_count")
        waits = f"{count} changes wait; " if count else ""
        yield f"  bucket {_name(bucket, 'name')}: {waits}cannot be opened: {bucket.get('error')}{when}"
        if count and bucket.get("hint"):
            yield f"    {bucket['hint']}"
    for bucket in document.get("removing") or ():
        why = bucket.get("error") or "it is being asked"
        yield f"  bucket {_name(bucket, 'name')}: removed here, and not at the Hub yet: {why}"
    conflicts = document.get("conflicts") or ()
    if conflicts:
        yield f"  conflicts: {len(conflicts)}, both versions are kept; 'bucketfs conflicts' lists them"
    files = document.get("descriptors") or {}
    if files and files["limit"] - files["open"] < FEW_DESCRIPTORS:
        yield f"  open files: {files['open']} of {files['limit']}: raise the limit (ulimit -n, or LimitNOFILE= of the service)"
    cache = document.get("cache") or {}
    if cache:
        yield f"  cache: {size_text(cache.get('disk_bytes', 0))} on disk, {size_text(cache.get('memory_bytes', 0))} in memory"
    if "started_s" in document:
        yield f"  running for {duration_text(now_s - document['started_s'])}, process {document.get('pid')}"


_LISTED_MAX = 20
_PAUSED = {
    "key": "pushes pause, the Hub refuses the key",
    "limit": "pushes pause, a limit is reached",
    "hub": "pushes pause, the Hub is away",
    "room": "pushes pause, the disk of the Hub is full",
    "disk": "pushes pause, the disk of this mount's state is full",
}


def _bucket_lines(bucket: Mapping[str, Any], now_s: float) -> Iterator[str]:
    if bucket.get("error"):
        again = bucket.get("next_try_s")
        when = f"; next try in {duration_text(max(0.0, again - now_s))}" if again is not None else ""
        what = _PAUSED.get(bucket.get("paused") or "", "not pushed")
        yield f"  bucket {_name(bucket, 'name')}: {_waiting(bucket)}; {what}: {bucket['error']}{when}"
        if bucket.get("hint"):
            yield f"    {bucket['hint']}"
    elif bucket.get("pushing"):
        yield f"  bucket {_name(bucket, 'name')}: {_waiting(bucket)}, being pushed"
    elif bucket.get("pending_count"):
        yield f"  bucket {_name(bucket, 'name')}: {_waiting(bucket)}"
    refused = bucket.get("refused") or ()
    yield from _listed(bucket, refused, f"{len(refused)} paths are refused by the Hub and wait here:")
    damaged = bucket.get("damaged") or ()
    yield from _listed(
        bucket, damaged, f"{len(damaged)} files that wait here were damaged by this disk; write or delete them:"
    )
    lost = [{"path": item["path"], "reason": item["change"]} for item in bucket.get("quarantined") or ()]
    yield from _listed(
        bucket,
        lost,
        f"blocks that changes of {len(lost)} paths were made on are lost; 'bucketfs recover' saves the changes:",
    )


def _listed(bucket: Mapping[str, Any], items: Sequence[Mapping[str, Any]], what: str) -> Iterator[str]:
    if not items:
        return
    yield f"  bucket {_name(bucket, 'name')}: {what}"
    for item in items[:_LISTED_MAX]:
        path = _name(item, "path") if item.get("path") else "(the bucket itself)"
        yield f"    {path}: {item.get('reason')}"
    if len(items) > _LISTED_MAX:
        yield f"    and {len(items) - _LISTED_MAX} more; --json has them all"


def _name(document: Mapping[str, Any], key: str) -> str:
    return quoted_name(str(document.get(key)))


def _waiting(document: Mapping[str, Any]) -> str:
    count = document.get("pending_count", 0)
    if not count:
        return "all are at the Hub"
    age = document.get("oldest_age_s")
    since = f", the oldest for {duration_text(age)}" if age is not None else ""
    return f"{count} ({size_text(document.get('pending_bytes', 0))}) wait{since}"
