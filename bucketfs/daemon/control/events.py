"""The stream of ``bucketfs events``: the news of the buckets as documents, with the paths that the mount shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bucketfs.cache import Source, run_steps
from bucketfs.daemon.buckets import Volumes, started
from bucketfs.daemon.control.mount_paths import MountPaths, is_under
from bucketfs.daemon.host import Document, Progress
from bucketfs.dag import cid_text, diff
from bucketfs.errors import BucketfsError, TooLarge
from bucketfs.sync import ChangeKind, News, NewsKind, PathEvent, PoliteSource, events_of
from bucketfs.types import Cid
from bucketfs.vfs import Permissions

EVENTS_MAX = 200_000
"""More differences than this between two roots are reported as lost: walking the tree once is less work then."""

BATCH = 256


async def stream_events(
    volumes: Volumes, paths: MountPaths, source: Source, asked: str, progress: Progress, *, events_max: int = EVENTS_MAX
) -> None:
    """Send ``progress`` everything that changes at or below ``asked``, a path inside the mount, until the mount ends."""
    with volumes.feed.subscribe([started(one) for one in volumes.open.values()]) as subscription:
        async for news in subscription:
            documents = await _documents(news, volumes, paths, source, asked, events_max)
            for start in range(0, len(documents), BATCH):
                await progress({"events": documents[start : start + BATCH]})


async def _documents(
    news: News, volumes: Volumes, paths: MountPaths, source: Source, asked: str, events_max: int
) -> list[Document]:
    folder = paths.inside(news.folder, "") or ""
    if not _meant(folder, asked):
        return []
    document = _head(news)
    if news.kind is not NewsKind.MOVED:
        return [document]
    assert news.old is not None and news.new is not None, "a move has two ends"
    try:
        changes = await run_steps(diff(news.old, news.new), PoliteSource(source))
        if len(changes) > events_max:
            raise TooLarge(f"more than {events_max} differences")
    except BucketfsError as error:
        return [{**document, "kind": NewsKind.LOST.value, "old_root": cid_text(news.old), "reason": str(error)}]
    opened = volumes.open.get(news.key)
    permissions = None if opened is None else opened.volume.tree.permissions
    return list(_shown(events_of(changes), document, news, paths, asked, permissions))


def _head(news: News) -> Document:
    document: Document = {"kind": news.kind.value, "bucket": news.name, "key": str(news.key), "time_s": time.time()}
    if news.kind in (NewsKind.MOVED, NewsKind.LOST):
        document["origin"] = "local" if news.local else "remote"
    if news.kind is NewsKind.LOST:
        document["old_root"] = _text(news.old)
    document["root"] = _text(news.old if news.kind is NewsKind.END else news.new)
    return document


def _shown(
    events: list[PathEvent], head: Document, news: News, paths: MountPaths, asked: str, permissions: Permissions | None
) -> Iterator[Document]:
    """The events about ``asked`` that the mount shows, as documents."""
    for event in events:
        if permissions is not None and not permissions.shows(event.path):
            continue
        at = paths.inside(news.folder, event.path)
        was = paths.inside(news.folder, event.was) if event.was else None
        if not any(one is not None and _meant(one, asked, event.kind) for one in (at, was)):
            continue
        document = {**head, "kind": event.kind.value, "path": event.path, "old": _text(event.old), "new": _text(event.new)}
        if at is not None:
            document["file"] = paths.absolute(at)
        if event.was:
            document["was"] = event.was
        yield document


def _meant(at: str, asked: str, kind: ChangeKind | None = None) -> bool:
    """Whether ``at`` is, holds, or lies in ``asked``. The attributes of a folder do not concern what is in it."""
    return is_under(at, asked) or (kind is not ChangeKind.ATTRIBUTES and is_under(asked, at))


def _text(cid: Cid | None) -> str | None:
    return None if cid is None else cid_text(cid)
