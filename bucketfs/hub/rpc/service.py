"""What a service is, and what its handlers know of a call. Pure.

A ``Service`` is the full name of a protobuf service and a Python function per method. The shapes of requests and replies and
the streaming kinds come from the descriptors, so a service file only names methods:

    unary       def Root(request, context) -> RootResponse
    stream out  def PullPath(request, context) -> Iterator[PullPathResponse]
    stream in   def Put(requests: Iterator[PutRequest], context) -> PutReply
    both        def PushPath(requests: Iterator[...], context) -> Iterator[...]

A request iterator ends at the client's half-close, and raises ``Status(CANCELLED)`` when the client went away instead: input
that was cut off is never taken for complete input. Handlers see no grpc, so a test can hand in a ``Context`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bucketfs.hub.db import AccountKind
from bucketfs.keys import KeyType
from bucketfs.types import ThreadId

Handler = Callable[[Any, Any], Any]
"""``(request or iterator of requests, context: Context) -> reply or iterator of replies``; raises ``Status``."""


@dataclass(frozen=True, slots=True)
class Service:
    """One gRPC service of the hub. The module with its messages must have been imported, so that its descriptor is known."""

    name: str
    """Full name, e.g. ``api.bucketsd.pb.APIService``."""
    methods: Mapping[str, Handler]
    waiting: frozenset[str] = field(default=frozenset())
    """Methods that mostly wait (for a change, for a person): they get threads of their own, so that any number of idle
    listeners leaves the workers free."""
    unimplemented: str = "is not offered by this hub"
    """How the answer to a method that is not in ``methods`` goes on after the method's name."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls. Secrets (session, tokens) stay out of the repr."""

    account: str = ""
    """Public key text of the acting account, ``""`` for an anonymous caller."""
    account_kind: AccountKind = AccountKind.NOBODY
    user: str | None = None
    """Public key text of the developer behind the call, also while acting as an org by session; ``None`` with an org's
    key."""
    key_type: KeyType | None = None
    """``None`` when the call came with a session."""
    api_key: str | None = field(default=None, repr=False)
    signed: bool = True
    """False when the key needs no signature, so that its name is all that a caller had to know."""
    session: str | None = field(default=None, repr=False)
    realm: str = ""
    """Public key text of the owner of the user group key that was used, ``""`` for other calls: the same user under a key of
    another owner is another user."""
    thread: ThreadId | None = None
    """Of the ``x-textile-thread`` header; ``None`` when absent or not decodable."""
    thread_name: str = ""
    crowd: str = ""
    """For a call that is open to all: which one. Those who make it share places with each other only."""
    peer: str = ""
    """For such a call: from where it comes."""
    writer: str | None = None
    """Who reads and writes buckets: the acting account, or beside a user group key the subject of the token. ``None`` for an
    anonymous caller."""

    @property
    def payer(self) -> str:
        """The account whose limits count: of a user, the owner of the key."""
        return self.realm or self.account

    @property
    def holder(self) -> str:
        """Who holds the places that a call takes: a user together with the owner of the key. ``""`` for an anonymous caller."""
        return f"{self.realm} {self.account}".strip()


NOBODY = Call()


class Context(Protocol):
    """What a handler may know and do about its call besides answering it."""

    @property
    def call(self) -> Call:
        """Who calls."""

    def check_admitted(self) -> None:
        """Raises ``Status`` when the call would not be let in any more: its key was invalidated, its session ended. For
        calls that go on for long; the date of a signature is not looked at again."""

    def is_active(self) -> bool:
        """False once the client has gone, the deadline passed or the call ended."""

    def check_active(self) -> None:
        """Raises ``Status`` CANCELLED once the call has ended. Ask right before storing what a client streamed in: that it
        went away may become known only after its stream looked complete."""

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Calls back, from another thread, when the call ends. False (and no call) when it already has ended."""

    def send_headers(self) -> None:
        """Sends the response headers now, so that the client knows that the call was taken up."""

    def set_trailers(self, trailers: dict[str, str | bytes]) -> None:
        """Trailing metadata for a call that ends well; one that fails carries them in its ``Status``."""
