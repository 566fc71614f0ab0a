"""Fair queueing of single calls: the slow calls of one account do not delay those of others.

Only so many calls are at work at a time, and one that is at work cannot be stopped. So an account gets another place only while
more places are free than it has: alone it gets half of all, beside others less, and some are left for the next account.
(That is the rule of dynamic thresholds, by which switches share a buffer between their ports.) The users of one owner's keys have
together at most three times as many as are free, and callers without an account a third as many. The account with
the fewest calls at work is next; the calls of one account are served in the order they came.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from bucketfs.hub.rpc.service import Call

_Caller = tuple[str, str]
"""Account and payer."""


class FairQueue:
    """So many calls at work at a time. Thread-safe."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._by_account: Counter[str] = Counter()
        self._by_payer: Counter[str] = Counter()
        self._waiting: dict[_Caller, deque[threading.Event]] = {}

    @contextmanager
    def taken(self, call: Call) -> Iterator[bool]:
        """Hold a place, once there is one for this caller. Says whether the call had to wait."""
        caller = (call.holder, call.payer)
        mine = self._ask(caller)
        if mine is not None:
            mine.wait()
        try:
            yield mine is not None
        finally:
            self._give_back(caller)

    def _ask(self, caller: _Caller) -> threading.Event | None:
        """Take a place, or stand in the queue."""
        with self._lock:
            # Who waits already is first: an account's calls are taken in their order.
            if caller not in self._waiting and self._may(caller):
                self._take(caller)
                return None
            mine = threading.Event()
            self._waiting.setdefault(caller, deque()).append(mine)
            return mine

    def _give_back(self, caller: _Caller) -> None:
        account, payer = caller
        with self._lock:
            self._free += 1
            self._by_account -= Counter((account,))
            self._by_payer -= Counter((payer,))
            while (chosen := self._next()) is not None:
                queue = self._waiting[chosen]
                self._take(chosen)
                queue.popleft().set()
                if not queue:
                    del self._waiting[chosen]

    def _next(self) -> _Caller | None:
        allowed = [caller for caller in self._waiting if self._may(caller)]
        return min(allowed, key=lambda caller: self._by_account[caller[0]], default=None)

    def _may(self, caller: _Caller) -> bool:
        account, payer = caller
        mine = self._by_account[account] * (1 if account else 3)
        return mine < self._free and self._by_payer[payer] < 3 * self._free

    def _take(self, caller: _Caller) -> None:
        account, payer = caller
        self._free -= 1
        self._by_account[account] += 1
        self._by_payer[payer] += 1
