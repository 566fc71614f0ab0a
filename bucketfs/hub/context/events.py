"""News about instances (buckets among them) inside one Hub process: services publish, ``Listen`` subscribes.

A subscription says *that* an instance changed, not how: a listener reads the current state when it gets to it. So
repeated saves of one instance that are still pending become one, and a slow listener never misses the last root of a
bucket. What is pending is bounded; past the bound the oldest news goes first, as the protocol allows.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from bucketfs.types import ThreadId

PENDING_MAX = 10_000
BUCKETS_COLLECTION = "buckets"
"""The collection of a thread that its buckets are the instances of."""


class EventAction(enum.Enum):
    """What happened, by its number in ``threads.pb.ListenReply``."""

    CREATE = 0
    SAVE = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """One committed change of an instance; ``key`` is its id, of a bucket its key."""

    thread: ThreadId
    collection: str
    key: str
    action: EventAction


class EventSubscription:
    """The changes of one thread since it was made. Used by one consumer thread; closed by anyone."""

    def __init__(self, feed: InstanceEvents, thread: ThreadId) -> None:
        self._feed = feed
        self.thread = thread
        self._news = threading.Condition()
        self._pending: deque[InstanceEvent] = deque()
        self._closed = False
        self._look_again = False

    def __iter__(self) -> Iterator[InstanceEvent]:
        """Yields changes as they come, waiting in between, until the subscription is closed."""
        return (change for change in self.each(None) if change is not None)

    def each(self, every_s: float | None) -> Iterator[InstanceEvent | None]:
        """The same, and ``None`` when ``every_s`` seconds went by without one, or ``InstanceEvents.look_again`` was called."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._pending or self._closed or self._look_again, every_s)
                if self._closed:
                    return
                change = None if self._look_again or not self._pending else self._pending.popleft()
                self._look_again = False
            yield change

    def look_again(self) -> None:
        """Makes ``each`` yield ``None`` next."""
        with self._news:
            self._look_again = True
            self._news.notify_all()

    def close(self) -> None:
        """Ends the iteration at once. May be called again, and from any thread."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._feed._forget(self)

    def _offer(self, change: InstanceEvent) -> None:
        with self._news:
            same = [other for other in self._pending if (other.collection, other.key) == (change.collection, change.key)]
            if change.action is EventAction.SAVE and same:
                latest = same[-1]
                # A pending CREATE or SAVE will show the state as it is when it is picked up.
                if latest.action is not EventAction.DELETE:
                    return
            if len(self._pending) >= PENDING_MAX:
                self._pending.popleft()
            self._pending.append(change)
            self._news.notify_all()


class InstanceEvents:
    """Where changes are announced. Thread-safe; ``publish`` never waits for a listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[ThreadId, set[EventSubscription]] = {}
        self._closed = False

    def publish(self, thread: ThreadId, key: str, action: EventAction, collection: str = BUCKETS_COLLECTION) -> None:
        """Tells every subscription of the thread. Call it after the change was committed, never before."""
        change = InstanceEvent(thread, collection, key, action)
        with self._lock:
            listeners = list(self._subscriptions.get(thread, ()))
        for listener in listeners:
            listener._offer(change)

    def subscribe(self, thread: ThreadId) -> EventSubscription:
        """A subscription that sees every change published after this call. Close it when done."""
        subscription = EventSubscription(self, thread)
        with self._lock:
            closed = self._closed
            if not closed:
                self._subscriptions.setdefault(thread, set()).add(subscription)
        if closed:
            subscription.close()
        return subscription

    def look_again(self) -> None:
        """Rights of some user ended: every listener checks whether they were its own."""
        with self._lock:
            everyone = [one for group in self._subscriptions.values() for one in group]
        for subscription in everyone:
            subscription.look_again()

    def listeners(self) -> int:
        """How many subscriptions are open."""
        with self._lock:
            return sum(len(group) for group in self._subscriptions.values())

    def close(self) -> None:
        """Ends every subscription, present and future: the hub is stopping."""
        with self._lock:
            self._closed = True
            everyone = [one for group in self._subscriptions.values() for one in group]
        for subscription in everyone:
            subscription.close()

    def _forget(self, subscription: EventSubscription) -> None:
        with self._lock:
            group = self._subscriptions.get(subscription.thread)
            if group is not None:
                group.discard(subscription)
                if not group:
                    del self._subscriptions[subscription.thread]
