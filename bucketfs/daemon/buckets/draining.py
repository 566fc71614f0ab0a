"""Waiting until buckets are at the Hub: for ``sync``, and for a bounded time when a mount ends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from bucketfs.client import Retry
from bucketfs.daemon.buckets.bucket_folders import BucketFolders
from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.host import Document, Progress
from bucketfs.errors import BucketfsError, Unavailable

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5

AWAY_S = 5.0
"""How long the end of a mount waits for a Hub that cannot be reached: long enough that gRPC connects to one that was just
restarted, and short enough that an offline user does not wait for the whole drain."""


async def drain_all(chosen: list[OpenVolume]) -> None:
    """Push what is dirty and show what the Hub has. Raises the first error after every bucket had its try."""
    failure: BucketfsError | None = None
    for one in chosen:
        try:
            await one.scheduler.drain()
        except BucketfsError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def check_all_open(folders: BucketFolders) -> None:
    """Raises Unavailable when changes wait for a bucket that cannot be opened, so that no push can send them."""
    for pending in folders.pending.values():
        if pending.changes:
            raise Unavailable(
                f"{pending.changes} changes wait for bucket {pending.info.name!r}, which cannot be opened: {pending.error}",
                hint=pending.error.hint,
            )


async def report_while(chosen: list[OpenVolume], progress: Progress, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work``, and report now and then how far the pushes of ``chosen`` are."""

    async def report() -> None:
        while True:
            await trio.sleep(PROGRESS_EVERY_S)
            count = sum(one.scheduler.pending_count for one in chosen)
            pushing = [found for one in chosen if (found := one.scheduler.progress()) is not None]
            document: Document = {"text": f"{count} changes wait", "pending_count": count}
            if pushing:
                document["done_bytes"] = sum(found.done_bytes for found in pushing)
                document["total_bytes"] = sum(one.scheduler.pending_bytes for one in chosen)
            await progress(document)

    failure: BucketfsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        # Caught here, because the nursery would wrap it in a group.
        try:
            await work()
        except BucketfsError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def left_text(one: OpenVolume) -> str:
    """What of a bucket was not pushed, in words; empty when nothing is left."""
    if not one.scheduler.dirty:
        return ""
    count, size = one.scheduler.pending_count, one.scheduler.pending_bytes
    why = f" ({one.scheduler.failure.error})" if one.scheduler.failure is not None else ""
    return f"{count} changes ({size} bytes) of bucket {one.info.name!r} wait in the journal for the next mount{why}"


async def drain_until(opened: list[OpenVolume], folders: BucketFolders, deadline: float) -> None:
    """Push everything, each bucket at least tried once, none past the deadline (of trio's clock). A Hub that is away is retried for
    a moment."""

    async def one_volume(one: OpenVolume) -> None:
        try:
            await Retry()(one.scheduler.drain, give_up_after_s=AWAY_S)
        except BucketfsError as error:
            log.info("bucket %r could not be pushed at the end: %s", one.info.name, error)

    async def removals() -> None:
        try:
            await Retry()(folders.removals.drain, give_up_after_s=AWAY_S)
        except BucketfsError as error:
            log.info("removed buckets could not be removed at the Hub at the end: %s", error)

    with trio.move_on_at(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(removals)
            for one in opened:
                if one.scheduler.dirty:
                    nursery.start_soon(one_volume, one)
