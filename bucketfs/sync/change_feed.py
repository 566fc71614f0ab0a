"""News of what changed in the buckets of a mount, for programs that keep something of their own in step with it.

News is a change of the base: the differences of two roots that both were the Hub's, path by path, in the order in which the mount
saw them. So it is exact and complete, and says of each change whether this mount made it.

Nothing is computed before a subscriber asks: a `ChangeFeed` hands each subscriber pairs of roots, which cost nothing to keep,
and the one that takes them out compares the trees (`events_of`). A subscriber that does not keep up finds the newest pairs made
into one that is marked as lost.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import trio

from bucketfs.cache import Source
from bucketfs.dag import Change
from bucketfs.types import BucketKey, Cid

WAITING_MAX = 256
"""Pairs of roots that wait for a subscriber. A mount that is busy gives one every few seconds."""


class ChangeKind(enum.Enum):
    """What became of a path."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    ATTRIBUTES = "attributes"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True)
class PathEvent:
    """One difference. ``was`` is the path that a renamed thing had, empty otherwise."""

    kind: ChangeKind
    path: str
    old: Cid | None
    new: Cid | None
    was: str = ""


def events_of(changes: Sequence[Change]) -> list[PathEvent]:
    """What `dag.diff` found, as events in the order of paths. What is gone at one path and new at another is renamed, when no other
    path has the same CID: equal things that moved cannot be told apart, and stay removed and added."""
    gone = [change.old.cid for change in changes if change.old is not None and change.new is None]
    came = [change.new.cid for change in changes if change.new is not None and change.old is None]
    once = {cid for cid, count in Counter(gone).items() if count == 1} & {
        cid for cid, count in Counter(came).items() if count == 1
    }
    origins = {
        change.old.cid: _text(change.path)
        for change in changes
        if change.old is not None and change.new is None and change.old.cid in once
    }
    events: list[PathEvent] = []
    for change in changes:
        path = _text(change.path)
        if change.attributes_only and change.old is not None and change.new is not None:
            events.append(PathEvent(ChangeKind.ATTRIBUTES, path, change.old.cid, change.new.cid))
        elif change.new is None:
            assert change.old is not None, "a difference has a side"
            if change.old.cid not in once:
                events.append(PathEvent(ChangeKind.REMOVED, path, change.old.cid, None))
        elif change.old is not None:
            events.append(PathEvent(ChangeKind.CHANGED, path, change.old.cid, change.new.cid))
        elif change.new.cid in once:
            events.append(PathEvent(ChangeKind.RENAMED, path, change.new.cid, change.new.cid, origins[change.new.cid]))
        else:
            events.append(PathEvent(ChangeKind.ADDED, path, None, change.new.cid))
    return events


def _text(path: tuple[bytes, ...]) -> str:
    # A name that is no text comes from another client; it is shown as far as it is one.
    return b"/".join(path).decode(errors="surrogateescape")


class NewsKind(enum.Enum):
    """What a piece of news is about."""

    START = "start"
    MOVED = "moved"
    LOST = "lost"
    END = "end"


@dataclass(frozen=True, slots=True)
class News:
    """The root of a bucket moved from ``old`` to ``new``, by a push from here when ``local``. ``START``: the bucket is followed
    from ``new`` on; ``LOST``: from ``old`` to ``new`` in steps that were not kept; ``END``: the bucket left the mount. ``folder``
    is the bucket's at the top of the mount, empty when it is the mount's root."""

    kind: NewsKind
    key: BucketKey
    name: str
    folder: bytes
    old: Cid | None
    new: Cid | None
    local: bool = False


@dataclass(eq=False, slots=True)
class FeedSubscription:
    """What waits for one subscriber; iterate over it. It ends when the feed does."""

    waiting_max: int = WAITING_MAX
    _waiting: deque[News] = field(default_factory=deque)
    _lost: dict[BucketKey, News] = field(default_factory=dict)
    _more: trio.Event = field(default_factory=trio.Event)
    _over: bool = False

    def put(self, news: News) -> None:
        """Queue ``news``. Never waits, and never keeps more than the bound and one for each bucket."""
        behind = self._lost.get(news.key)
        # A start says the root anew, and behind an end there is nothing left to be lost.
        if news.kind is not NewsKind.MOVED:
            self._lost.pop(news.key, None)
            self._waiting.append(news)
        elif behind is not None:
            self._lost[news.key] = replace(news, kind=NewsKind.LOST, old=behind.old, local=behind.local and news.local)
        elif len(self._waiting) >= self.waiting_max:
            self._lost[news.key] = replace(news, kind=NewsKind.LOST)
        else:
            self._waiting.append(news)
        self._more.set()

    def close(self) -> None:
        """Nothing comes any more; what waits is still given out."""
        self._over = True
        self._more.set()

    def __aiter__(self) -> FeedSubscription:
        return self

    async def __anext__(self) -> News:
        while not (self._waiting or self._lost):
            if self._over:
                raise StopAsyncIteration
            self._more = trio.Event()
            await self._more.wait()
        # What was lost is newer than all that waits of its bucket, so it comes behind that.
        if self._waiting:
            return self._waiting.popleft()
        return self._lost.pop(next(iter(self._lost)))


class ChangeFeed:
    """The news of one mount, to all who subscribed. ``waiting_max``: pairs of roots that are kept for each."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self.waiting_max = waiting_max
        self._subscriptions: set[FeedSubscription] = set()
        self._left = trio.Event()
        self._over = False

    @contextmanager
    def subscribe(self, present: Iterable[News] = ()) -> Iterator[FeedSubscription]:
        """All news from now on, after what is ``present``."""
        subscription = FeedSubscription(self.waiting_max)
        for news in present:
            subscription.put(news)
        if self._over:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._left.set()

    def tell(self, news: News) -> None:
        """Something happened. Never waits."""
        for subscription in self._subscriptions:
            subscription.put(news)

    async def close(self) -> None:
        """Nothing more will happen; returns when all subscribers have what waited for them and left."""
        self._over = True
        for subscription in self._subscriptions:
            subscription.close()
        while self._subscriptions:
            self._left = trio.Event()
            await self._left.wait()


class PoliteSource:
    """A source that lets others run before each answer: comparing two large trees must not hold up the mount's requests."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def get(self, cid: Cid) -> bytes:
        """As the source does."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """As the source does."""
        await trio.lowlevel.checkpoint()
        return dict(await self._source.get_many(cids))

    def peek(self, cid: Cid) -> bytes | None:
        """As the source does."""
        return self._source.peek(cid)
