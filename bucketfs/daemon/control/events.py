"""What ``bucketfs events`` streams: the news of the buckets as documents, with the paths that the mount shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bucketfs.cache import Source, run_steps
from bucketfs.daemon.buckets.volumes import Volumes, started
from bucketfs.daemon.control.socket import Progress
from bucketfs.daemon.mount_paths import Where, is_under
from bucketfs.dag import cid_text, diff
from bucketfs.errors import BucketfsError, TooLarge
from bucketfs.sync import ChangeKind, News, NewsKind, PathEvent, PoliteSource, events_of
from bucketfs.types import Cid
from bucketfs.vfs import Permissions

Document = dict[str, Any]

EVENTS_MAX = 200_000
"""More differences than this between two roots are told as lost: to walk the tree once is less work then."""

BATCH = 256


async def stream(volumes: Volumes, where: Where, source: Source, asked: str, progress: Progress) -> None:
    """Tell ``progress`` of everything that changes at or below ``asked``, a path inside the mount, until the mount ends."""
    with volumes.feed.subscribe([started(one) for one in volumes.open.values()]) as subscription:
        async for news in subscription:
            told = await _documents(news, volumes, where, source, asked)
            for start in range(0, len(told), BATCH):
                await progress({"events": told[start : start + BATCH]})


async def _documents(news: News, volumes: Volumes, where: Where, source: Source, asked: str) -> list[Document]:
    folder = where.inside(news.folder, "") or ""
    if not _meant(folder, asked):
        return []
    document = _head(news)
    if news.kind is not NewsKind.MOVED:
        return [document]
    assert news.old is not None and news.new is not None, "a move has two ends"
    try:
        changes = await run_steps(diff(news.old, news.new), PoliteSource(source))
        if len(changes) > EVENTS_MAX:
            raise TooLarge(f"more than {EVENTS_MAX} differences")
    except BucketfsError as error:
        return [{**document, "kind": NewsKind.LOST.value, "old_root": cid_text(news.old), "reason": str(error)}]
    opened = volumes.open.get(news.key)
    rights = None if opened is None else opened.volume.tree.permissions
    return list(_shown(events_of(changes), document, news, where, asked, rights))


def _head(news: News) -> Document:
    document: Document = {"kind": news.kind.value, "bucket": news.name, "key": str(news.key), "time_s": time.time()}
    if news.kind in (NewsKind.MOVED, NewsKind.LOST):
        document["origin"] = "local" if news.local else "remote"
    if news.kind is NewsKind.LOST:
        document["old_root"] = _text(news.old)
    document["root"] = _text(news.old if news.kind is NewsKind.END else news.new)
    return document


def _shown(
    events: list[PathEvent], head: Document, news: News, where: Where, asked: str, rights: Permissions | None
) -> Iterator[Document]:
    """The events that the mount shows and somebody asked for, as documents."""
    for event in events:
        if rights is not None and not rights.shows(event.path):
            continue
        at = where.inside(news.folder, event.path)
        was = where.inside(news.folder, event.was) if event.was else None
        if not any(one is not None and _meant(one, asked, event.kind) for one in (at, was)):
            continue
        document = {**head, "kind": event.kind.value, "path": event.path, "old": _text(event.old), "new": _text(event.new)}
        if at is not None:
            document["file"] = where.absolute(at)
        if event.was:
            document["was"] = event.was
        yield document


def _meant(at: str, asked: str, kind: ChangeKind | None = None) -> bool:
    """Whether what is at ``at`` is, holds, or lies in what was asked for. The attributes of a folder are nobody's but its own."""
    return is_under(at, asked) or (kind is not ChangeKind.ATTRIBUTES and is_under(asked, at))


def _text(cid: Cid | None) -> str | None:
    return None if cid is None else cid_text(cid)
