"""Waiting until buckets are at the Hub: on ``sync``, and for a bounded time when a mount ends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from bucketfs.client import Retry
from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.buckets.volumes import Volumes
from bucketfs.daemon.control.socket import Document, Progress
from bucketfs.errors import BucketfsError, Unavailable

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5

AWAY_S = 5.0
"""How long the end of a mount waits for a Hub that cannot be reached: one that was started again just now is found within gRPC's
pause between attempts, and whoever is offline need not wait out the whole drain."""


async def settle_all(chosen: list[OpenVolume]) -> None:
    """Push what is dirty and show what the Hub has; raises the first reason after every bucket had its try."""
    failure: BucketfsError | None = None
    for one in chosen:
        try:
            await one.scheduler.drain()
        except BucketfsError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def check_opened(volumes: Volumes) -> None:
    """Raises Unavailable when changes wait for a bucket that cannot be opened, which nothing can push."""
    for waiting in volumes.waiting.values():
        if waiting.changes:
            raise Unavailable(
                f"{waiting.changes} changes wait for bucket {waiting.info.name!r}, which cannot be opened: {waiting.error}",
                hint=waiting.error.hint,
            )


async def reporting(chosen: list[OpenVolume], progress: Progress, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` and tell now and then how far the pushes of ``chosen`` are."""

    async def report() -> None:
        while True:
            await trio.sleep(PROGRESS_EVERY_S)
            waiting = sum(one.scheduler.pending_count for one in chosen)
            pushing = [found for one in chosen if (found := one.scheduler.progress()) is not None]
            document: Document = {"text": f"{waiting} changes wait", "pending_count": waiting}
            if pushing:
                document["done_bytes"] = sum(found.done_bytes for found in pushing)
                document["total_bytes"] = sum(one.scheduler.pending_bytes for one in chosen)
            await progress(document)

    failure: BucketfsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        # Kept out of the nursery, which would wrap it in a group.
        try:
            await work()
        except BucketfsError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def left_of(one: OpenVolume) -> str:
    """What of a bucket was not pushed, in words; empty when nothing is left."""
    if not one.scheduler.dirty:
        return ""
    count, size = one.scheduler.pending_count, one.scheduler.pending_bytes
    why = f" ({one.scheduler.failure.error})" if one.scheduler.failure is not None else ""
    return f"{count} changes ({size} bytes) of bucket {one.info.name!r} wait in the journal for the next mount{why}"


async def drain(volumes: Volumes, deadline: float) -> None:
    """Push everything, each bucket at least tried once, none past the deadline (of trio's clock). A Hub that is away is asked
    again for a moment."""

    async def one_volume(one: OpenVolume) -> None:
        try:
            await Retry()(one.scheduler.drain, give_up_after_s=AWAY_S)
        except BucketfsError as error:
            log.info("bucket %r could not be pushed at the end: %s", one.info.name, error)

    async def removals() -> None:
        try:
            await Retry()(volumes.removals.settle, give_up_after_s=AWAY_S)
        except BucketfsError as error:
            log.info("removed buckets could not be removed at the Hub at the end: %s", error)

    with trio.move_on_at(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(removals)
            for one in volumes.open.values():
                if one.scheduler.dirty:
                    nursery.start_soon(one_volume, one)
