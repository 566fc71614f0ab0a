"""What becomes of the differences of two roots, and of a subscriber that does not keep up."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bucketfs.dag import Change, cid_of
from bucketfs.sync import ChangeFeed, ChangeKind, FeedSubscription, News, NewsKind, PathEvent, events_of
from bucketfs.types import BucketKey, Cid, Link

A, B, C = (Link(cid_of(bytes([number])), 1) for number in range(3))


def change(path: str, old: Link | None, new: Link | None, attributes_only: bool = False) -> Change:
    return Change(tuple(path.encode().split(b"/")) if path else (), old, new, attributes_only)


def test_one_event_for_each_difference() -> None:
    """An indexer that follows events misses no path."""
    assert events_of([change("", A, B, True), change("d/new", None, A), change("e", A, C), change("f", B, None)]) == [
        PathEvent(ChangeKind.ATTRIBUTES, "", A.cid, B.cid),
        PathEvent(ChangeKind.ADDED, "d/new", None, A.cid),
        PathEvent(ChangeKind.CHANGED, "e", A.cid, C.cid),
        PathEvent(ChangeKind.REMOVED, "f", B.cid, None),
    ]


def test_what_moved_is_renamed_when_it_is_the_only_one_of_its_kind() -> None:
    """A renamed film is not indexed anew, and two equal files are never mixed up."""
    assert events_of([change("a", A, None), change("b", None, A)]) == [PathEvent(ChangeKind.RENAMED, "b", A.cid, A.cid, "a")]
    # The order is that of paths, wherever the thing came from.
    assert events_of([change("a", None, A), change("b", A, None)]) == [PathEvent(ChangeKind.RENAMED, "a", A.cid, A.cid, "b")]
    twice = [change("a", A, None), change("b", None, A), change("c", None, A)]
    assert [event.kind for event in events_of(twice)] == [ChangeKind.REMOVED, ChangeKind.ADDED, ChangeKind.ADDED]
    from_two = [change("a", A, None), change("b", A, None), change("c", None, A)]
    assert [event.kind for event in events_of(from_two)] == [ChangeKind.REMOVED, ChangeKind.REMOVED, ChangeKind.ADDED]
    # A name that was taken over is a change of that name; what had it is gone.
    over = [change("a", A, None), change("b", B, A)]
    assert [event.kind for event in events_of(over)] == [ChangeKind.REMOVED, ChangeKind.CHANGED]


ROOTS = [cid_of(b"root %d" % number) for number in range(30)]
KEY, OTHER = BucketKey("one"), BucketKey("other")


def moved(key: BucketKey, old: int, new: int, local: bool = True) -> News:
    return News(NewsKind.MOVED, key, key, b"", ROOTS[old], ROOTS[new], local)


async def taken(subscription: FeedSubscription, count: int) -> list[News]:
    found: list[News] = []
    for _ in range(count):
        found.append(await anext(subscription))
    return found


async def test_who_does_not_keep_up_is_told_from_where_to_where() -> None:
    """A slow program loses the single steps, never the sum of them."""
    subscription = FeedSubscription(waiting_max=3)
    for number in range(9):
        subscription.put(moved(KEY, number, number + 1, local=number != 5))
        subscription.put(moved(OTHER, number, number + 1))
    found = await taken(subscription, 5)
    assert found[:3] == [moved(KEY, 0, 1), moved(OTHER, 0, 1), moved(KEY, 1, 2)]
    # Something of the one was not made here; the other was, all of it.
    lost = {news.key: (news.kind, news.old, news.new, news.local) for news in found[3:]}
    assert lost == {KEY: (NewsKind.LOST, ROOTS[2], ROOTS[9], False), OTHER: (NewsKind.LOST, ROOTS[1], ROOTS[9], True)}
    # From there on it goes on as before.
    subscription.put(moved(KEY, 9, 10))
    assert await taken(subscription, 1) == [moved(KEY, 9, 10)]


async def test_each_bucket_is_followed_without_a_gap() -> None:
    """However fast news comes and is taken: the roots that one subscriber is told of hang together."""
    subscription = FeedSubscription(waiting_max=2)
    at = {KEY: ROOTS[0], OTHER: ROOTS[0]}
    for number in range(29):
        subscription.put(moved(KEY, number, number + 1))
        if number % 3 == 0:
            subscription.put(moved(OTHER, number // 3, number // 3 + 1))
        if number % 4 == 3:
            for news in await taken(subscription, 1 + number % 2):
                assert news.old == at[news.key]
                at[news.key] = news.new or Cid(b"")
    subscription.close()
    async for news in subscription:
        assert news.old == at[news.key]
        at[news.key] = news.new or Cid(b"")
    assert at == {KEY: ROOTS[29], OTHER: ROOTS[10]}


async def test_a_bucket_that_goes_takes_along_what_was_lost() -> None:
    """No news comes of a bucket after its end."""
    subscription = FeedSubscription(waiting_max=1)
    subscription.put(moved(KEY, 0, 1))
    subscription.put(moved(KEY, 1, 2))
    end = News(NewsKind.END, KEY, KEY, b"", ROOTS[2], None)
    subscription.put(end)
    subscription.close()
    assert [news async for news in subscription] == [moved(KEY, 0, 1), end]


@pytest.mark.parametrize("slow", [False, True])
async def test_a_feed_that_ends_gives_out_what_waits(slow: bool) -> None:
    """What was pushed before umount is still told."""
    feed = ChangeFeed()
    got: list[News] = []

    async def follow(*, task_status: trio.TaskStatus[None]) -> None:
        with feed.subscribe([moved(KEY, 0, 1)]) as subscription:
            task_status.started()
            async for news in subscription:
                got.append(news)
                if slow:
                    await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        await nursery.start(follow)
        for number in range(1, 4):
            feed.tell(moved(KEY, number, number + 1))
        nursery.start_soon(feed.close)
    assert got == [moved(KEY, number, number + 1) for number in range(4)]
    with feed.subscribe() as late:
        assert [news async for news in late] == []
