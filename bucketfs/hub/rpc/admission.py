"""How many calls may wait for their clients at once: in all, for one account, and for the users of one key owner.

A call that waits for its client holds a thread. A client that opens many and lets them wait would hold all threads, so no account
gets more than half of them, the users of one owner's keys no more than three quarters, and callers without an account a quarter:
one for sign-ups, another for sign-ins, and a quarter of each for one address. When nearly all places are taken, the calls that have
waited longest without progress are ended (``IdleReaper``). Otherwise none is: a reader may pause for as long as its user reads.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from bucketfs.hub.rpc.service import Call
from bucketfs.hub.rpc.status import Code, Status

TOO_MANY = "too many calls at once"
"""How a refusal for want of places begins: clients look for it and try again later."""
MESSAGE_S = 15.0
"""How long the one message of a single call may take. Clients send it together with the headers."""
IDLE_S = 60.0
"""How long a stream may stand still where places are scarce."""
ASK_EVERY_S = 10.0
"""How long a stream that stands still goes without a check that its key is still valid."""
LOOK_EVERY_S = 1.0


class OpenCall:
    """One call that holds a place. ``waiting_since_s`` is set while it waits for the client."""

    def __init__(self, cancel: Callable[[], None], *, single: bool, admitted: Callable[[], bool] = lambda: True) -> None:
        """``admitted`` says whether the call would still be let in."""
        self.cancel = cancel
        self.single = single
        self.admitted = admitted
        self.waiting_since_s: float | None = None
        self._asked_s = time.monotonic()

    def ended(self, now_s: float) -> bool:
        """Whether the call stands still and would not be let in any more. Asks now and then."""
        if self.single or self.waiting_since_s is None or now_s - self._asked_s < ASK_EVERY_S:
            return False
        self._asked_s = now_s
        return not self.admitted()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the client is waited for."""
        self.waiting_since_s = time.monotonic()
        try:
            yield
        finally:
            self.waiting_since_s = None

    def waited_s(self, now_s: float) -> float:
        """For how long the client has let us wait; 0 when it does not."""
        since_s = self.waiting_since_s
        return 0.0 if since_s is None else now_s - since_s


class Admission:
    """The places of one kind of call. Thread-safe."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._lock = threading.Lock()
        self._open: set[OpenCall] = set()
        self._by_account: Counter[str] = Counter()
        self._by_payer: Counter[str] = Counter()
        self._by_peer: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def taken(self, call: Call, open_call: OpenCall) -> Iterator[None]:
        """Hold a place. Raises Status RESOURCE_EXHAUSTED when there is none for this caller."""
        account, peer = call.holder or call.crowd, (call.crowd, call.peer)
        with self._lock:
            self._check(call, account, peer)
            self._open.add(open_call)
            self._by_account[account] += 1
            self._by_payer[call.payer] += 1
            if call.crowd:
                self._by_peer[peer] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(open_call)
                self._by_account -= Counter((account,))
                self._by_payer -= Counter((call.payer,))
                self._by_peer -= Counter((peer,))

    def idle(self, now_s: float) -> list[OpenCall]:
        """Those that have to go, now."""
        open_calls = self.open_calls()
        late = [open_call for open_call in open_calls if open_call.single and open_call.waited_s(now_s) > MESSAGE_S]
        scarce = len(open_calls) > self.places * 3 // 4
        return late + [
            open_call for open_call in open_calls if scarce and not open_call.single and open_call.waited_s(now_s) > IDLE_S
        ]

    def open_calls(self) -> list[OpenCall]:
        """The calls that hold a place now."""
        with self._lock:
            return list(self._open)

    def _check(self, call: Call, account: str, peer: tuple[str, str]) -> None:
        if len(self._open) >= self.places:
            raise Status(Code.RESOURCE_EXHAUSTED, f"{TOO_MANY}: all {self.places} places of this hub are taken")
        most = max(2, self.places // 16)
        if self._by_peer[peer] >= most:
            raise Status(
                Code.RESOURCE_EXHAUSTED, f"{TOO_MANY}: one address may have {most} of this hub's {self.places} open"
            )
        most = max(1, self.places // (2 if call.holder else 4))
        if self._by_account[account] >= most:
            raise Status(
                Code.RESOURCE_EXHAUSTED, f"{TOO_MANY}: one account may have {most} of this hub's {self.places} open"
            )
        most = max(1, self.places * 3 // 4)
        if self._by_payer[call.payer] >= most:
            text = f"{TOO_MANY}: the users of one key owner may have {most} of this hub's {self.places} open"
            raise Status(Code.RESOURCE_EXHAUSTED, text)


class IdleReaper:
    """A thread that sends away who waits too long, or with a key that counts no more. ``start`` and ``stop`` once each."""

    def __init__(self, *places: Admission) -> None:
        self._pools = places
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-patience", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """The end; does not wait for it."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            for places in self._pools:
                for open_call in places.idle(now_s):
                    open_call.cancel()
                for open_call in places.open_calls():
                    if open_call.ended(now_s):
                        open_call.cancel()


def peer_of(text: str) -> str:
    """The machine in gRPC's text for a peer (``ipv4:192.0.2.1:5000``), without its port. Of an IPv6 address the network, since
    one machine has all of its addresses. A proxy in front of the hub is one machine.
    """
    scheme, _, rest = text.partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return scheme
    host = unquote(rest).rpartition(":")[0].removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
