"""Sign-ups and sign-ins wait here until a person has followed a link.

A confirmation releases every call that waits for its secret at that moment and is not remembered. Links are secrets: they
go to ``HubConfig.announce`` (standard error by default), never to the log.

Anyone may ask, also for another's sign-in, so there are places of their own for sign-ups and for sign-ins, some for each address,
and a few for each name from one address. Where they are used up the longest-waiting of that crowd goes, or the one
who comes when none has waited for long: who fills them fills them for itself.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bucketfs.hub.config import GATEWAY_URL, HubConfig
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.keys import SESSION_BYTES, random_text

WAITING_MAX = 128
"""Of each kind. One that waits holds a thread."""
WAITING_PER_PEER = 32
WAITING_PER_NAME = 4
DWELL_S = 10.0
"""How long one that waits is safe from being displaced: time to follow a link, and a bound on how many links are sent."""
TOO_MANY = "too many confirmations are waiting; try again later"


@dataclass(eq=False, slots=True)
class _PendingConfirmation:
    kind: str
    peer: str
    name: str
    secret: str
    since_s: float = field(default_factory=time.monotonic)
    released: threading.Event = field(default_factory=threading.Event)
    confirmed: bool = False
    displaced: bool = False


class Confirmations:
    """The calls that wait. Thread-safe."""

    def __init__(self, config: HubConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._waiting: dict[_PendingConfirmation, None] = {}
        """In the order they came."""
        self._closed = False

    def ask(self, kind: str, name: str, context: Context) -> None:
        """Announces a link for a ``kind`` (sign-up or sign-in) of ``name`` and blocks until it was followed; returns at once
        when the hub confirms by itself.

        Raises Status UNAUTHENTICATED when the link was not followed in time, RESOURCE_EXHAUSTED when too many others came after it,
        CANCELLED when the caller went away, UNAVAILABLE when the hub stops.
        """
        if self._config.auto_confirm:
            return
        mine = _PendingConfirmation(kind, context.call.peer, name, self._config.confirm_secret or random_text(SESSION_BYTES))
        self._enter(mine)
        try:
            if not context.on_end(mine.released.set):
                context.check_active()
            self.announce(f"confirm the {kind} of {name}: {self._config.links_base or GATEWAY_URL}/confirm/{mine.secret}")
            in_time = mine.released.wait(self._config.confirm_timeout_s)
        finally:
            with self._lock:
                self._waiting.pop(mine, None)
        if mine.confirmed:
            return
        if mine.displaced:
            raise Status(Code.RESOURCE_EXHAUSTED, TOO_MANY)
        if not in_time:
            raise Status(Code.UNAUTHENTICATED, "Could not verify email address")
        context.check_active()
        raise Status(Code.UNAVAILABLE, "the hub is stopping")

    def confirm(self, secret: str) -> int:
        """Releases the calls that wait for ``secret``; how many there were."""
        with self._lock:
            found = [one for one in self._waiting if one.secret == secret]
            for one in found:
                one.confirmed = True
                del self._waiting[one]
        for one in found:
            one.released.set()
        return len(found)

    def announce(self, line: str) -> None:
        """Show a line with a link to the operator of this Hub."""
        if self._config.announce is not None:
            self._config.announce(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Sends everyone home: the hub is stopping."""
        with self._lock:
            self._closed = True
            everyone = list(self._waiting)
        for one in everyone:
            one.released.set()

    def _enter(self, mine: _PendingConfirmation) -> None:
        with self._lock:
            if self._closed:
                raise Status(Code.UNAVAILABLE, "the hub is stopping")
            for one in self._in_the_way(mine):
                if mine.since_s - one.since_s < DWELL_S:
                    raise Status(Code.RESOURCE_EXHAUSTED, TOO_MANY)
                one.displaced = True
                del self._waiting[one]
                one.released.set()
            self._waiting[mine] = None

    def _in_the_way(self, mine: _PendingConfirmation) -> Iterator[_PendingConfirmation]:
        """Who has to go so that there is a place: one, or none."""
        alike = [one for one in self._waiting if one.kind == mine.kind]
        near = [one for one in alike if one.peer == mine.peer]
        same = [one for one in near if one.name == mine.name]
        if len(same) >= WAITING_PER_NAME:
            yield same[0]
        elif len(near) >= WAITING_PER_PEER:
            yield near[0]
        elif len(alike) >= WAITING_MAX:
            largest = Counter(one.peer for one in alike).most_common(1)[0][0]
            yield next(one for one in alike if one.peer == largest)
