"""One call: who makes it, in which thread, and the few things a handler may do to the stream itself.

``Call`` is what auth.py found out from the metadata of a request and never changes. ``Context`` is what a handler gets
beside its request: the call, and a narrow view of the transport, so that no handler imports grpc and a test can hand in its
own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bucketfs.hub.db import AccountKind
from bucketfs.keys import KeyType
from bucketfs.types import ThreadId


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
