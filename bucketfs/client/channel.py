"""A channel to one Hub: gRPC on one side, trio on the other. The only file that imports grpc.

Unary calls and calls that stream in only one reply use gRPC's futures: a callback of gRPC's own thread wakes the waiting
task, so that no thread is used per call (measured: half as fast again as a thread each). Reply streams are read one message
at a time on worker threads with a limiter of their own, so that slow streams never take the threads that disk work needs. A
call with such a stream is begun when there is a place for it, since a Hub counts what is open and refuses more than so many;
gRPC reads at most one message ahead, and its flow control holds the Hub back beyond that. Request streams are pulled by
gRPC's own thread through a channel without a buffer, so that a slow link holds the sender back. Leaving a call in any way
but by its end cancels it on the wire; a cancelled request stream is never half-closed, since a Hub takes a half-close for
the end of the data.

Every call has a deadline: unary ones in full, streams for each message.

A call waits for what credentials need first (a token, see token.py). One that the Hub refuses for them is made once more when
there is something to be had anew; a stream is not, because its caller may have heard or said something already.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
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
from bucketfs.client.streams import Call, Dialogue, Encodable, Outbox, Replies, closing, limit
from bucketfs.errors import BucketfsError, Unauthenticated, Unavailable
from bucketfs.types import ThreadId

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_S = 30.0
STREAMS_MAX = 32
"""Reply streams open at a time."""
STREAM_THREADS_MAX = 3 * STREAMS_MAX
"""One for a stream's replies and one for its headers; and a thread that was abandoned may take a moment to end."""
CLOSE_GRACE_S = 5.0
RECEIVE_MAX_BYTES = 64 << 20
"""One ListPath of a large folder passes gRPC's default of 4 MiB; a Hub puts no limit on what it sends."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", RECEIVE_MAX_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 << 10),
    # gRPC's own pause between connection attempts grows to two minutes, and all calls fail meanwhile without a look at the
    # Hub; ours (retry.py) decides, so gRPC's stays short. It attempts nothing where there is no call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Not a pause, whatever its name: how long one attempt to connect may take, TLS included.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    # Two channels of one process to one Hub must not share a connection whose other owner closes it.
    ("grpc.use_local_subchannel_pool", 1),
)
# A Textile Hub allows one ping in 20 s; a dead connection is noticed within 40 s, while a call is open.
_KEEPALIVE = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))
# gRPC asks the proxy that ``http_proxy`` names for loopback addresses as well, and what is meant for this machine would cross a
# network in clear text to come back, or not.
_NO_PROXY = ("grpc.enable_http_proxy", 0)


async def _ready() -> None:
    """Credentials that need nothing."""


class Channel:
    """Calls to the Hub at one endpoint. An async context manager; calls outside of it are refused as Unavailable.

    ``credentials`` is asked on each call, so a key can be replaced while the channel is open. ``counts`` holds calls per
    ``service/Method``, ``sent_bytes`` and ``received_bytes`` the message bytes per ``service/Method``. ``behind`` is by how much
    our clock was behind the Hub's at its last single answer that told the time (negative: ahead), ``warnings`` what the Hub
    wants the user to be told; each goes to the log when it is first heard.

    Each call raises what ``answers.py`` makes of the Hub's answer, Unavailable and TimedOut among them.
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
        """``timeout_s`` holds for calls that name none. ``root_certificates`` (PEM) replaces the system's for TLS.

        ``prepare`` is awaited before each call but ``GetToken``, which it may make; ``refused`` hears that the Hub did not
        accept the credentials, and says whether ``prepare`` may help. It may hear it twice. Raises Usage where the credentials
        would cross a network in clear text.
        """
        endpoint.check_transport()
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.counts: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.received_bytes: Counter[str] = Counter()
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
        self._counting = threading.Lock()

    async def __aenter__(self) -> Channel:
        # Only here, not in the constructor: a gRPC channel does not survive a fork.
        options = [*_OPTIONS, *(() if self.endpoint.local else _KEEPALIVE)]
        if self.endpoint.on_this_machine:
            options.append(_NO_PROXY)
        if self.endpoint.tls:
            secure = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.secure_channel(self.endpoint.target, secure, options)
        else:
            self._channel = grpc.insecure_channel(self.endpoint.target, options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """The reply to ``request``, of the method's reply type. ``timeout_s`` (the channel's if None) covers the whole
        call."""
        descriptor = service.methods_by_name[method]
        limit_s = self._timeout_s(timeout_s)
        try:
            return await self._unary(descriptor, request, thread, thread_name, limit_s)
        except Unauthenticated:
            # Nothing was done, so the call may be made once more.
            if not self._refused():
                raise
            return await self._unary(descriptor, request, thread, thread_name, limit_s)

    async def _unary(
        self,
        method: MethodDescriptor,
        request: Message,
        thread: ThreadId | None,
        thread_name: str,
        limit_s: float | None,
    ) -> Any:
        await self._prepare()
        with self._ours(method.name):
            call = self._callable(method).future(request, timeout=limit_s, metadata=self._metadata(thread, thread_name))
            try:
                await _ended(call)
                reply = call.result()
                self._hear(call.trailing_metadata())
                return reply
            finally:
                call.cancel()

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

        What ``requests`` raises cancels the call and is raised. A Hub that ends the call early is noticed at the next
        request.
        """
        descriptor = service.methods_by_name[method]
        limit_s = self._timeout_s(timeout_s)
        await self._prepare()
        outbox = Outbox()
        with self._ours(method):
            call = self._callable(descriptor).future(outbox, metadata=self._metadata(thread))
            try:
                call.add_done_callback(outbox.call_ended)
                async with closing(requests) as ours:
                    async for request in ours:
                        if not await outbox.put(request, limit_s, self._attempted(method)):
                            break
                outbox.finish()
                with limit(limit_s, self._attempted(method)):
                    await outbox.ended.wait()
                reply = call.result()
                self._hear(call.trailing_metadata())
                return reply
            finally:
                # In this order: a closed outbox ends the requests, which gRPC half-closes unless the call is over.
                call.cancel()
                outbox.close()

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

        ``convert`` is applied to each reply on the worker thread: it is the place to hash, and what it raises is raised.
        ``bundle`` is how many replies are taken with one change of threads, for methods whose messages are small and come
        without pause.
        """
        return Replies(self._call(service.methods_by_name[method], thread, timeout_s), convert, request, bundle)

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
        return Dialogue(self._call(service.methods_by_name[method], thread, timeout_s), convert)

    def _call(self, method: MethodDescriptor, thread: ThreadId | None, timeout_s: float | None) -> Call:
        def begin(request: object) -> Any:
            return self._callable(method)(request, metadata=self._metadata(thread))

        return Call(
            # The token is what is asked for in preparing.
            _ready if method.name == "GetToken" else self._prepare,
            begin,
            lambda: self._ours(method.name),
            self._attempted(method.name),
            self._timeout_s(timeout_s),
            self._in_thread,
            self._places,
        )

    async def _in_thread(self, wait: Callable[[], T]) -> T:
        # A cancelled wait abandons its thread for a moment: leaving the stream's ``async with`` cancels the call that it
        # waits for.
        return await trio.to_thread.run_sync(wait, abandon_on_cancel=True, limiter=self._limiter)

    def _timeout_s(self, given_s: float | None) -> float | None:
        limit_s = self.timeout_s if given_s is None else given_s
        return None if limit_s == float("inf") else limit_s

    def _attempted(self, method: str) -> str:
        return f"{method} at the Hub {self.endpoint}"

    def _metadata(self, thread: ThreadId | None, thread_name: str = "") -> list[tuple[str, str]]:
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
        # A proxy's date comes before the answer, or with it when there is nothing else.
        pairs = [*_pairs(status.trailing_metadata()), *_pairs(status.initial_metadata())]
        failure = Failure(code.name if code else "UNKNOWN", status.details() or "", pairs)
        return error_of(failure, self._attempted(method), self._now())

    def _hear(self, trailers: Any) -> None:
        """What an answer that went well says beside itself."""
        pairs = _pairs(trailers)
        told = hub_time(pairs)
        if told is not None:
            self.behind = told - self._now()
        warning = warning_of(pairs)
        if warning and warning not in self.warnings:
            self.warnings.append(warning)
            log.warning("the Hub %s says: %s", self.endpoint, warning)

    def _callable(self, method: MethodDescriptor) -> Any:
        """gRPC's object for a method; counts the call. Raises Unavailable outside of the channel's context."""
        if self._channel is None:
            raise Unavailable(f"{self._attempted(method.name)}: the channel is closed")
        key = f"{method.containing_service.full_name}/{method.name}"
        self.counts[key] += 1
        if key not in self._callables:
            kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            make = getattr(self._channel, kind)
            self._callables[key] = make(f"/{key}", self._serializer(key), self._deserializer(key, method))
        return self._callables[key]

    def _serializer(self, key: str) -> Callable[[Encodable], bytes]:
        def serialize(message: Encodable) -> bytes:
            data = message.SerializeToString()
            with self._counting:
                self.sent_bytes[key] += len(data)
            return data

        return serialize

    def _deserializer(self, key: str, method: MethodDescriptor) -> Callable[[bytes], Message]:
        parse = GetMessageClass(method.output_type).FromString

        def deserialize(data: bytes) -> Message:
            with self._counting:
                self.received_bytes[key] += len(data)
            return parse(data)

        return deserialize


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
