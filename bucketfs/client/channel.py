"""A channel to one Hub: gRPC on one side, trio on the other. The only file that imports grpc.

- Unary calls are gRPC futures: a callback of gRPC's own thread wakes the waiting task, so no thread is used per call
  (measured: half as fast again as a thread each).
- Reply streams are read on worker threads with a limiter of their own, so that a slow stream never takes a thread that disk work
  needs. A call with such a stream waits for a place first, since a Hub counts open streams and refuses more than so many. gRPC
  reads at most one message ahead; beyond that its flow control holds the Hub back.
- Request streams are pulled by gRPC's own thread through a channel without a buffer, so that a slow link holds the sender back.
- A call that is left before its end is cancelled on the wire. A cancelled request stream is never half-closed, since a Hub takes a
  half-close for the end of the data.
- Every call has a deadline: unary ones in full, streams for each message.
- A call waits for what its credentials need first (a token, see token.py). A unary call that the Hub refuses for them is made once
  more when a new token can be had; a stream is not, because its caller may have received or sent something already.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import grpc
import trio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bucketfs.client.endpoint import Endpoint
from bucketfs.client.headers import Credentials, metadata
from bucketfs.client.hub_clock import hub_time
from bucketfs.client.status_errors import Failure, error_of, warning_of
from bucketfs.client.streams import Dialogue, Encodable, Replies, closing
from bucketfs.errors import BucketfsError, Corrupt, TimedOut, Unauthenticated, Unavailable
from bucketfs.types import ThreadId

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_S = 30.0
STREAMS_MAX = 32
"""Reply streams open at a time."""
STREAM_THREADS_MAX = 3 * STREAMS_MAX
"""For each stream a thread for replies and one for headers; one more, as an abandoned thread may take a moment to end."""
CLOSE_GRACE_S = 5.0
RECEIVE_MAX_BYTES = 64 << 20
"""A ListPath of a large folder exceeds gRPC's default of 4 MiB; a Hub puts no limit on what it sends."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", RECEIVE_MAX_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 << 10),
    # gRPC's own pause between attempts to connect grows to two minutes, and all calls fail meanwhile without a look at the Hub.
    # Retry decides when to try again, so gRPC's pause stays short; without a call gRPC attempts nothing.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Not a pause, whatever its name: how long one attempt to connect may take, TLS included.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    # Two channels of one process to one Hub must not share a connection whose other owner closes it.
    ("grpc.use_local_subchannel_pool", 1),
)
# A Textile Hub allows one ping in 20 s; a dead connection is noticed within 40 s, while a call is open.
_KEEPALIVE = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))
# gRPC uses the proxy that ``http_proxy`` names for loopback addresses too: calls to this machine would cross a network in clear
# text.
_NO_PROXY = ("grpc.enable_http_proxy", 0)


async def _ready() -> None:
    """Credentials that need nothing."""


class Channel:
    """Calls to the Hub at one endpoint. An async context manager; calls outside of it are refused as Unavailable.

    ``counts`` counts calls per ``service/Method``. ``behind`` is by how much this machine's clock was behind the Hub's at the last
    unary answer that told the time (negative: ahead). ``warnings`` holds what the Hub wants the user to know; each is logged once.

    Each call raises what ``status_errors.py`` makes of the Hub's answer, Unavailable and TimedOut among them.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        timeout_s: float = TIMEOUT_S,
        *,
        root_certificates: bytes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        prepare: Callable[[], Awaitable[None]] = _ready,
        refused: Callable[[], bool] = lambda: False,
    ) -> None:
        """``credentials`` is called for each call, so a key can be replaced while the channel is open. ``timeout_s`` holds for
        calls that name none. ``root_certificates`` (PEM) replaces the system's for TLS.

        ``prepare`` is awaited before each call but ``GetToken``, which it may make. ``refused`` is called, maybe twice, when the
        Hub did not accept the credentials, and returns whether ``prepare`` may help. Raises Usage where credentials would cross a
        network in clear text.
        """
        endpoint.check_transport()
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.counts: Counter[str] = Counter()
        self.behind: timedelta | None = None
        self.warnings: list[str] = []
        self._credentials = credentials
        self._root_certificates = root_certificates
        self._now = now
        self._prepare = prepare
        self._refused = refused
        self._channel: Any = None
        self._callables: dict[str, Any] = {}
        self._places = trio.CapacityLimiter(STREAMS_MAX)
        self._limiter = trio.CapacityLimiter(STREAM_THREADS_MAX)

    async def __aenter__(self) -> Channel:
        # Not in the constructor: a gRPC channel does not survive a fork.
        options = [*_OPTIONS, *(() if self.endpoint.local else _KEEPALIVE)]
        if self.endpoint.on_this_machine:
            options.append(_NO_PROXY)
        if self.endpoint.tls:
            secure = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.secure_channel(self.endpoint.target, secure, options)
        else:
            self._channel = grpc.insecure_channel(self.endpoint.target, options)
        return self

    async def __aexit__(self, *error: object) -> None:
        channel, self._channel = self._channel, None
        self._callables.clear()
        with trio.move_on_after(CLOSE_GRACE_S, shield=True):
            await trio.to_thread.run_sync(channel.close, abandon_on_cancel=True)

    async def unary(
        self,
        service: ServiceDescriptor,
        method: str,
        request: Message,
        *,
        thread: ThreadId | None = None,
        thread_name: str = "",
        timeout_s: float | None = None,
    ) -> Any:
        """The reply to ``request``. ``timeout_s`` (the channel's if None) covers the whole call."""
        descriptor = service.methods_by_name[method]
        limit_s = self._limit_s(timeout_s)

        async def attempt() -> Any:
            await self._prepare()
            with self._ours(method):
                headers = self._headers(thread, thread_name)
                deadline_s = limit_s if limit_s < float("inf") else None
                call = self._callable(descriptor).future(request, timeout=deadline_s, metadata=headers)
                try:
                    await _ended(call)
                    return self._result(call)
                finally:
                    call.cancel()

        try:
            return await attempt()
        except Unauthenticated:
            # Nothing was done, so the call may be made once more.
            if not self._refused():
                raise
            return await attempt()

    async def stream_in(
        self,
        service: ServiceDescriptor,
        method: str,
        requests: AsyncIterable[Encodable],
        *,
        thread: ThreadId | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The one reply to a stream of requests. ``timeout_s`` is for each message to be taken, and for the reply.

        What ``requests`` raises cancels the call and is raised. A Hub that ends the call early is noticed at the next request.
        """
        # On the wire one reply is a stream of one. No place is taken: `requests` may wait for a stream that needs one.
        stream = _Stream(self, service.methods_by_name[method], thread, self._limit_s(timeout_s), places=None)
        async with Dialogue[Any](stream, lambda reply: reply) as dialogue:
            async with closing(requests) as ours:
                async for request in ours:
                    if not await dialogue.send(request):
                        break
            dialogue.finish()
            replies = [reply async for reply in dialogue]
        if len(replies) != 1:
            raise Corrupt(f"{self._attempted(method)}: {len(replies)} replies where there is one")
        return replies[0]

    def stream_out(
        self,
        service: ServiceDescriptor,
        method: str,
        request: Message,
        convert: Callable[[Any], T],
        *,
        thread: ThreadId | None = None,
        timeout_s: float | None = None,
        bundle: int = 1,
    ) -> Replies[T]:
        """A stream of replies, to be entered with ``async with`` and iterated. ``timeout_s`` is for each message.

        ``convert`` is applied to each reply on the worker thread (the place to hash); what it raises is raised. ``bundle`` is how
        many replies are taken with one change of threads, for methods whose messages are small and come without pause.
        """
        stream = _Stream(self, service.methods_by_name[method], thread, self._limit_s(timeout_s), self._places)
        return Replies(stream, convert, request, bundle)

    def stream_both(
        self,
        service: ServiceDescriptor,
        method: str,
        convert: Callable[[Any], T],
        *,
        thread: ThreadId | None = None,
        timeout_s: float | None = None,
    ) -> Dialogue[T]:
        """A stream each way, to be entered with ``async with``; requests go by ``send`` and ``finish``. Else as
        ``stream_out``."""
        stream = _Stream(self, service.methods_by_name[method], thread, self._limit_s(timeout_s), self._places)
        return Dialogue(stream, convert)

    def _limit_s(self, given_s: float | None) -> float:
        return self.timeout_s if given_s is None else given_s

    def _attempted(self, method: str) -> str:
        return f"{method} at the Hub {self.endpoint}"

    def _headers(self, thread: ThreadId | None, thread_name: str = "") -> list[tuple[str, str]]:
        return metadata(self._credentials(), self._now(), thread, thread_name)

    @contextlib.contextmanager
    def _ours(self, method: str) -> Iterator[None]:
        """Makes gRPC's errors ours."""
        try:
            yield
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            ours = self._error_of(error, method)
            if isinstance(ours, Unauthenticated):
                self._refused()
            raise ours from error

    def _error_of(self, error: Exception, method: str) -> BucketfsError:
        if isinstance(error, grpc.FutureCancelledError):
            return Unavailable(f"{self._attempted(method)}: the channel was closed")
        status = cast(Any, error)
        code = status.code()
        # A proxy's date stands in the headers before the answer, or in the trailers when there are no headers.
        pairs = [*_pairs(status.trailing_metadata()), *_pairs(status.initial_metadata())]
        failure = Failure(code.name if code else "UNKNOWN", status.details() or "", pairs)
        return error_of(failure, self._attempted(method), self._now())

    def _result(self, call: Any) -> Any:
        """The reply of a future that has ended; takes note of what the Hub says beside it."""
        reply = call.result()
        pairs = _pairs(call.trailing_metadata())
        told = hub_time(pairs)
        if told is not None:
            self.behind = told - self._now()
        warning = warning_of(pairs)
        if warning and warning not in self.warnings:
            self.warnings.append(warning)
            log.warning("the Hub %s says: %s", self.endpoint, warning)
        return reply

    def _callable(self, method: MethodDescriptor) -> Any:
        """gRPC's object for a method; counts the call. Raises Unavailable outside of the channel's context."""
        if self._channel is None:
            raise Unavailable(f"{self._attempted(method.name)}: the channel is closed")
        key = f"{method.containing_service.full_name}/{method.name}"
        self.counts[key] += 1
        if key not in self._callables:
            replying = "unary_stream" if method.server_streaming else "unary_unary"
            kind = "stream_stream" if method.client_streaming else replying
            make = getattr(self._channel, kind)
            self._callables[key] = make(f"/{key}", _serialize, GetMessageClass(method.output_type).FromString)
        return self._callables[key]


@dataclass(eq=False, slots=True)
class _Stream:
    """One call of a method that streams (``StreamCall``). ``places`` is None for a call that does not count."""

    channel: Channel
    method: MethodDescriptor
    thread: ThreadId | None
    limit_s: float
    places: trio.CapacityLimiter | None

    async def begin(self, request: object) -> Any:
        channel = self.channel
        # Before the place is taken, for it may need a call with a place of its own: the stream that gets the token, which
        # is the one call that needs nothing first.
        if self.method.name != "GetToken":
            await channel._prepare()
        if self.places is not None:
            with self.limited():
                await self.places.acquire_on_behalf_of(self)
        try:
            with channel._ours(self.method.name):
                return channel._callable(self.method)(request, metadata=channel._headers(self.thread))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        if self.places is not None:
            self.places.release_on_behalf_of(self)

    async def wait(self, get: Callable[[], T]) -> T:
        # A cancelled wait abandons its thread for a moment: leaving the stream's ``async with`` cancels the call that it
        # waits for.
        with self.channel._ours(self.method.name):
            return await trio.to_thread.run_sync(get, abandon_on_cancel=True, limiter=self.channel._limiter)

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        with trio.move_on_after(self.limit_s) as scope:
            yield
        if scope.cancelled_caught:
            attempted = self.channel._attempted(self.method.name)
            message = f"{attempted}: no answer within {self.limit_s:g} s"
            raise TimedOut(message, hint="the Hub or the way to it is slow; try again")


def _serialize(message: Encodable) -> bytes:
    return message.SerializeToString()


def _pairs(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or ()]


async def _ended(call: Any) -> None:
    """Waits until the call of a gRPC future is over."""
    token = trio.lowlevel.current_trio_token()
    ended = trio.Event()

    def wake(_call: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(ended.set)

    call.add_done_callback(wake)
    await ended.wait()
