"""Whose single call is at work next: one account's slow calls keep nobody else from theirs.

Only so many calls are at work at a time, and one that is at work cannot be stopped. So an account gets another turn only while
more turns are free than it has: alone it gets half of all, beside others less, and something is left for the next one who comes.
(That is the rule of dynamic thresholds, by which switches share a buffer between their ports.) The users of one owner's keys have
together at most three times as many as are free, and those who are nobody yet a third as many. Of those who wait and may, the one
with the least at work is next; of one account, who came first.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from bucketfs.hub.rpc.call import Call

_Caller = tuple[str, str]
"""Account and payer."""


class FairQueue:
    """So many calls at work at a time. Thread-safe."""

    def __init__(self, turns: int) -> None:
        self._free = turns
        self._lock = threading.Lock()
        self._by_account: Counter[str] = Counter()
        self._by_payer: Counter[str] = Counter()
        self._waiting: dict[_Caller, deque[threading.Event]] = {}

    @contextmanager
    def taken(self, call: Call) -> Iterator[bool]:
        """Holds a turn, once there is one for this caller. Says whether it had to be waited for."""
        caller = (call.holder, call.payer)
        mine = self._ask(caller)
        if mine is not None:
            mine.wait()
        try:
            yield mine is not None
        finally:
            self._give_back(caller)

    def _ask(self, caller: _Caller) -> threading.Event | None:
        """Takes a turn, or a place in the queue."""
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
