"""Who calls, and whether the thread is theirs: from the headers of a request to a ``Call``.

The order of the checks and every text are the protocol's: clients act on the texts. A session wins over an API key.
Secrets are compared in constant time or looked up by hash, and appear in no error.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.dag import multibase_decode
from bucketfs.errors import InvalidArgument, NotFound
from bucketfs.hub.db import AccountKind, AccountRow, HubDatabase, KeyRow
from bucketfs.hub.rpc.service import NOBODY, Call
from bucketfs.hub.rpc.status import Code, Status
from bucketfs.keys import (
    Identity,
    KeyType,
    TokenForged,
    TokenMalformed,
    parse_date_ns,
    parse_thread,
    signature_matches,
    thread_from_text,
    token_subject,
)
from bucketfs.types import ThreadId

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
BUCKETS = "api.bucketsd.pb.APIService"
THREADS = "threads.pb.API"
THREADS_NET = "threads.net.pb.API"
BLOCKS = "bucketfs.v1.Blocks"

SESSION_NS = 1260 * 24 * 3600 * 10**9
"""How long a session lives after its last use."""
_SESSION_STEP_NS = 24 * 3600 * 10**9

OPEN_TO_ALL = frozenset({(HUB, "Signup"), (HUB, "Signin"), (HUB, "IsUsernameAvailable")})
CLOSED_TO_ALL = frozenset({(THREADS, "ListDBs"), (THREADS_NET, "Subscribe")})
TOKEN_READERS = frozenset(
    {"Create", "Verify", "Save", "Delete", "Has", "Find", "FindByID", "ReadTransaction", "WriteTransaction", "Listen"}
)
"""Methods of threads.pb that look at a token whatever credential it comes beside."""
TOKEN_MAKERS = frozenset({(THREADS, "GetToken"), (THREADS_NET, "GetToken")})
# They bring a thread into being, so there is nothing to own yet.
THREAD_MAKERS = frozenset(
    {(THREADS, "NewDB"), (THREADS, "NewDBFromAddr"), (THREADS_NET, "CreateThread"), (THREADS_NET, "AddThread")}
)

CROSS_USER: Mapping[str, frozenset[str]] = {
    THREADS: TOKEN_READERS,
    BUCKETS: frozenset(
        [
            "Root",
            "Links",
            "ListPath",
            "PushPath",
            "PullPath",
            "SetPath",
            "MovePath",
            "RemovePath",
            "PushPathAccessRoles",
            "PullPathAccessRoles",
        ]
    ),
    # Blocks are named by CID, and a swap is judged path by path.
    BLOCKS: frozenset(["Get", "GetTree", "Missing", "Put", "SwapRoot", "Roots"]),
}
"""Methods that may name a stranger's thread: what they touch is guarded path by path."""

THREAD_FIELDS: Mapping[str, tuple[str, frozenset[str]]] = {
    THREADS: (
        "dbID",
        frozenset(
            [
                "GetDBInfo",
                "DeleteDB",
                "NewCollection",
                "UpdateCollection",
                "DeleteCollection",
                "GetCollectionInfo",
                "GetCollectionIndexes",
                "ListCollections",
            ]
        ),
    ),
    THREADS_NET: (
        "threadID",
        frozenset(["GetThread", "PullThread", "DeleteThread", "AddReplicator", "CreateRecord", "AddRecord", "GetRecord"]),
    ),
}
"""Per service: the request field that names a thread, and the methods whose field is checked."""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Turns headers into a ``Call``. Blocks for the database; may be used from any thread."""

    database: HubDatabase
    host_key: Identity
    refuse_insecure_keys: bool = False

    def admit(self, service: str, method: str, headers: Mapping[str, str], now_ns: int, peer: str = "") -> Call:
        """Who makes this call. Raises Status. ``headers`` has lower-case names and no empty values, ``peer`` is from where it
        comes.
        """
        where = (service, method)
        if where in OPEN_TO_ALL:
            return replace(NOBODY, crowd=method, peer=peer)
        if where in CLOSED_TO_ALL:
            raise Status(Code.PERMISSION_DENIED, "Method is not accessible")
        bearer = bearer_of(headers.get("authorization", ""))
        if "x-textile-session" in headers:
            who = self._by_session(headers["x-textile-session"], headers.get("x-textile-org", ""), now_ns)
        elif "x-textile-api-key" in headers:
            who = self._by_key(headers, bearer, where, now_ns)
        else:
            raise Status(Code.UNAUTHENTICATED, "Session or API key required")
        if bearer is not None and service == THREADS and method in TOKEN_READERS and who.key_type is not KeyType.USER:
            self._check_beside(bearer, who.account)
        return _with_headers(who, headers)

    def check_thread(self, call: Call, service: str, method: str, request: Any) -> None:
        """For unary calls: the threads of the header and of the request must be the caller's, or the method open to
        strangers.

        Raises Status PERMISSION_DENIED.
        """
        if (service, method) in OPEN_TO_ALL or (service, method) in THREAD_MAKERS:
            return
        named = set() if call.thread is None else {call.thread}
        field, methods = THREAD_FIELDS.get(service, ("", frozenset()))
        if method in methods:
            try:
                named.add(parse_thread(getattr(request, field)))
            except InvalidArgument as error:
                raise Status(Code.INVALID_ARGUMENT, str(error)) from error
        for thread in named:
            self._check_owner(call, thread, method in CROSS_USER.get(service, ()))

    def check_realm(self, call: Call, service: str, method: str, request: Any) -> None:
        """For streams, and for unary calls whose request names a thread that may be a stranger's: one's own threads are
        reached only with a key of the owner under whose key they were made.

        The original leaves these calls out, so that the holder of a user's token reaches that user's data in every app.
        Raises Status PERMISSION_DENIED.
        """
        if call.key_type is not KeyType.USER or (service, method) in TOKEN_MAKERS:
            return
        named = set() if call.thread is None else {call.thread}
        if service == THREADS and method in CROSS_USER[THREADS] and hasattr(request, "dbID"):
            # What is no thread ID is answered by the method itself.
            with suppress(InvalidArgument):
                named.add(parse_thread(request.dbID))
        for thread in named:
            self._check_owner(call, thread, open_to_strangers=True)

    def _check_owner(self, call: Call, thread: ThreadId, open_to_strangers: bool) -> None:
        if not check_realm(self.database, call, thread) and not open_to_strangers:
            raise Status(Code.PERMISSION_DENIED, "User does not own thread")

    def _by_session(self, session: str, org: str, now_ns: int) -> Call:
        row = self.database.session(session)
        if row is None:
            raise Status(Code.UNAUTHENTICATED, "Invalid session")
        if row.expires_at_ns < now_ns:
            raise Status(Code.UNAUTHENTICATED, "Expired session")
        # Written at most once a day: a write per call would cost a disk sync per call.
        if row.expires_at_ns < now_ns + SESSION_NS - _SESSION_STEP_NS:
            self.database.extend_session(session, now_ns + SESSION_NS)
        user = self._account(row.user, "User not found")
        acting = self._org_of(user, org) if org else user
        return _acting(acting, user=user.account, session=session)

    def _org_of(self, user: AccountRow, slug: str) -> AccountRow:
        refused = Status(Code.PERMISSION_DENIED, "User is not an org member")
        try:
            org = self.database.account_named(slug)
        except NotFound:
            raise refused from None
        if org.kind is not AccountKind.ORG or self.database.role_in(org.account, user.account) is None:
            raise refused
        return org

    def _by_key(self, headers: Mapping[str, str], bearer: str | None, where: tuple[str, str], now_ns: int) -> Call:
        try:
            key = self.database.key(headers["x-textile-api-key"])
        except NotFound:
            key = None
        if key is None or not key.valid:
            raise _refusal(
                "API key not found or is invalid",
                "no such API key on this hub" if key is None else "this API key was invalidated",
                code=Code.NOT_FOUND,
            )
        if key.secure:
            _check_signature(key, headers, now_ns)
        elif self.refuse_insecure_keys:
            raise _refusal(SIGNATURE_REQUIRED, "this hub refuses keys that need no signature: make a secure one")
        if key.type is KeyType.ACCOUNT:
            account = self._account(key.owner, "Account not found")
            user = account.account if account.kind is AccountKind.DEVELOPER else None
            return _acting(account, user=user, key=key)
        if where in TOKEN_MAKERS:
            return Call(account_kind=AccountKind.USER, key_type=KeyType.USER, api_key=key.key, realm=key.owner)
        if bearer is None:
            raise Status(Code.UNAUTHENTICATED, "Token required")
        subject = self._subject(bearer, key.owner)
        return Call(
            account=subject,
            account_kind=AccountKind.USER,
            key_type=KeyType.USER,
            api_key=key.key,
            signed=key.secure,
            realm=key.owner,
            writer=subject,
        )

    def _check_beside(self, token: str, account: str) -> None:
        """A token says who calls only beside a user group key. Beside a session or an account key the account acts; but
        a caller who holds a token that is not of this account's users is told so, not answered as another user.
        """
        try:
            token_subject(self.host_key, token, account)
        except TokenForged as error:
            raise Status(Code.UNKNOWN, "invalid thread token") from error
        except InvalidArgument as error:
            raise Status(Code.UNKNOWN, "thread token not found") from error

    def _subject(self, token: str, owner: str) -> str:
        """Who a token beside a user group key of ``owner`` was given to."""
        try:
            return token_subject(self.host_key, token, owner)
        except TokenMalformed as error:
            raise Status(Code.PERMISSION_DENIED, "Bad authorization") from error
        except TokenForged as error:
            raise Status(Code.UNAUTHENTICATED, "invalid thread token") from error
        except InvalidArgument as error:
            raise Status(Code.UNKNOWN, str(error)) from error

    def _account(self, account: str, absent: str) -> AccountRow:
        try:
            return self.database.account(account)
        except NotFound:
            raise Status(Code.NOT_FOUND, absent) from None


def check_realm(database: HubDatabase, call: Call, thread: ThreadId) -> bool:
    """Whether the caller owns a thread. Raises Status PERMISSION_DENIED when it is reached with a key of another owner than that
    under whose key it was made. For streams that name their thread in a message."""
    try:
        row = database.thread(thread)
    except NotFound:
        return False
    if row.owner != call.account:
        return False
    # The original wants the very key that the thread was made with, which locks users out when a key is replaced. Here any
    # user group key of the same owner will do: a new key is how a leaked one is replaced, and the owner could have made the
    # thread with it. Keys of other owners are refused as there, and so is a user group key for a thread that an account made
    # for itself.
    if call.key_type is KeyType.USER and row.realm != call.realm:
        raise Status(Code.PERMISSION_DENIED, "Bad API key")
    return True


def headers_of(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The headers (gRPC metadata) of a call: the first value of a name counts, an empty value is an absent one."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if isinstance(value, str) and value:
            found.setdefault(name.lower(), value)
    return found


def bearer_of(authorization: str) -> str | None:
    """The token of an ``authorization`` header, ``None`` for an empty one. Raises Status."""
    if not authorization:
        return None
    scheme, space, token = authorization.partition(" ")
    if not space:
        raise Status(Code.UNAUTHENTICATED, "Bad authorization string")
    if scheme.lower() != "bearer":
        raise Status(Code.UNAUTHENTICATED, "Request unauthenticated with bearer")
    return token.strip() or None


SIGNATURE_REQUIRED = "API key signature required"
BAD_SIGNATURE = "Bad API key signature"

DETAIL_TRAILER = "bucketfs-detail"
"""Trailing metadata: the reason behind a text of the protocol that several reasons share. For people."""
TIME_TRAILER = "bucketfs-time"
"""Trailing metadata: this hub's clock, RFC 3339, to the second. It stands beside every single answer, so that a client learns
that its clock goes wrong before its signatures do; of the refusals, beside those for a date that has passed."""
WARNING_TRAILER = "bucketfs-warning"
"""Trailing metadata of an answer that went well: a warning for the caller. For people."""
INSECURE_KEY = "this key needs no signature: anyone who sees it can use it"


def clock_text(now_ns: int) -> str:
    """A time as the trailer carries it."""
    return datetime.datetime.fromtimestamp(now_ns // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refusal(text: str, detail: str, *, code: Code = Code.UNAUTHENTICATED) -> Status:
    return Status(code, text, trailers={DETAIL_TRAILER: detail})


def _check_signature(key: KeyRow, headers: Mapping[str, str], now_ns: int) -> None:
    for name in ("x-textile-api-sig", "x-textile-api-sig-msg"):
        if name not in headers:
            raise _refusal(SIGNATURE_REQUIRED, f"{name} is missing")
    try:
        signature = multibase_decode(headers["x-textile-api-sig"])
    except InvalidArgument:
        raise _refusal(SIGNATURE_REQUIRED, "x-textile-api-sig is not multibase") from None
    message = headers["x-textile-api-sig-msg"]
    if not signature_matches(key.secret, message, signature):
        raise _refusal(BAD_SIGNATURE, "the signature is not the secret's over this date")
    # Only a caller that knows the secret learns more.
    try:
        left_ns = parse_date_ns(message) - now_ns
    except InvalidArgument:
        raise _refusal(BAD_SIGNATURE, "what was signed is no RFC 3339 date") from None
    if left_ns < 0:
        detail = f"the signed date passed {-left_ns / 1e9:.0f} s ago by this hub's clock"
        trailers = {DETAIL_TRAILER: detail, TIME_TRAILER: clock_text(now_ns)}
        raise Status(Code.UNAUTHENTICATED, BAD_SIGNATURE, trailers=trailers)


def _acting(account: AccountRow, *, user: str | None, session: str | None = None, key: KeyRow | None = None) -> Call:
    return Call(
        account=account.account,
        account_kind=account.kind,
        user=user,
        key_type=None if key is None else key.type,
        api_key=None if key is None else key.key,
        signed=key is None or key.secure,
        session=session,
        writer=account.account,
    )


def _with_headers(call: Call, headers: Mapping[str, str]) -> Call:
    thread: ThreadId | None
    try:
        thread = thread_from_text(headers.get("x-textile-thread", ""))
    except InvalidArgument:
        thread = None  # the protocol takes a header that does not decode for an absent one
    return replace(call, thread=thread, thread_name=headers.get("x-textile-thread-name", ""))
