"""The one place where handlers meet grpc: admission before them, status after them, streams around them.

``handlers`` turns a ``Service`` into the method table that grpc wants, with shapes taken from the protobuf descriptors. To grpc
every method takes a stream: of one that takes a single message, grpc would wait for that message in a thread before anybody has
asked who calls. So who is let in is known first, and then waited for no longer than its place (admission.py) lasts.

Threads: single calls, streams and those that wait for something to happen have pools of their own, so that none of them can keep
another kind out. Pools make threads as they are needed. Of single calls, no more than ``workers`` are at work at a time, and
fair_queue.py says whose; the others keep their places meanwhile, so that no account has all threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any, NoReturn

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bucketfs.hub.config import HubConfig
from bucketfs.hub.rpc.admission import Admission, IdleReaper, OpenCall, peer_of
from bucketfs.hub.rpc.authentication import THREADS, TIME_TRAILER, Authenticator, clock_text, headers_of
from bucketfs.hub.rpc.fair_queue import FairQueue
from bucketfs.hub.rpc.service import Call, Context, Handler, Service
from bucketfs.hub.rpc.status import Code, Status, status_of
from bucketfs.hub.store import InUse

log = logging.getLogger("bucketfs.hub")

END_GRACE_S = 0.01
"""How long the end of a request stream is doubted. grpcio reports a client that went away as an ordinary end of the stream
and, in up to a third of the cases, only afterwards as a call that ended. Measured: below 1 ms later on an idle machine;
with eight threads competing for the interpreter the end of the call was always known first."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


ADMITTED_EVERY_S = 1.0
"""How long the messages of a stream go on without a look at whether its key still counts."""
SPARE_THREADS = 16
"""Threads beyond the places: they answer the calls for which there is none."""


class GrpcContext(Context):
    """``call.Context`` over grpcio's."""

    def __init__(
        self, grpc_context: Any, call: Call, readmit: Callable[[], Any], trailers: dict[str, str | bytes] | None = None
    ) -> None:
        """``trailers`` go along with an answer that ends well, beside those that the handler sets."""
        self._grpc = grpc_context
        self._call = call
        self._readmit = readmit
        self._trailers = trailers or {}
        self.set_trailers({})

    @property
    def call(self) -> Call:
        return self._call

    def check_admitted(self) -> None:
        self._readmit()

    def is_admitted(self) -> bool:
        """Whether the call would still be let in, as far as can be said now."""
        try:
            self._readmit()
        except Status:
            return False
        except Exception:
            log.exception("cannot tell whether a call would still be let in")
        return True

    def is_active(self) -> bool:
        return bool(self._grpc.is_active())

    def check_active(self) -> None:
        if not self._grpc.is_active():
            raise Status(Code.CANCELLED, "the client went away")

    def on_end(self, callback: Callable[[], None]) -> bool:
        return bool(self._grpc.add_callback(callback))

    def send_headers(self) -> None:
        self._grpc.send_initial_metadata(())

    def set_trailers(self, trailers: dict[str, str | bytes]) -> None:
        self._grpc.set_trailing_metadata(tuple({**self._trailers, **trailers}.items()))


class _Pool(ThreadPoolExecutor):
    """Threads for one kind of call, and the places of calls that wait for their clients."""

    def __init__(self, places: int, name: str, working: int = 0) -> None:
        """``working`` is the number of threads for calls that have given back their place."""
        super().__init__(places + working + SPARE_THREADS, thread_name_prefix=name)
        self.places = Admission(places)


class Dispatcher:
    """Admits calls, runs handlers, and explains how they ended. ``start`` and ``stop`` once each."""

    def __init__(
        self,
        authenticator: Authenticator,
        log: logging.Logger,
        config: HubConfig,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._authenticator = authenticator
        self._log = log
        self._now_ns = now_ns
        self.singles = _Pool(config.singles_max, "hub-work", config.workers)
        self._streams = _Pool(config.streams_max, "hub-stream")
        self._waiters = _Pool(config.waiters_max, "hub-wait")
        self._queue = FairQueue(config.workers)
        self._inside = InUse("the hub")
        self._reaper = IdleReaper(self.singles.places, self._streams.places, self._waiters.places)

    def start(self) -> None:
        """From now on, who waits too long is sent away."""
        self._reaper.start()

    def stop(self, timeout_s: float) -> int:
        """Lets no call in any more, and waits for handlers that run; how many still do when the time is over."""
        self._reaper.stop()
        running = self._inside.shut(timeout_s)
        for pool in (self.singles, self._streams, self._waiters):
            pool.shutdown(wait=False)
        return running

    def methods(self, service: Service) -> dict[str, Any]:
        """grpc's handlers for every method of the service, by its name; those without a function answer UNIMPLEMENTED."""
        table: dict[str, Any] = {}
        described = descriptor_pool.Default().FindServiceByName(service.name)
        unknown = service.methods.keys() - {method.name for method in described.methods}
        assert not unknown, f"{service.name} has no {unknown}"
        for method in described.methods:
            handler = service.methods.get(method.name) or _unimplemented(service, method.name)
            pool = self._pool_of(service, method)
            make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.stream_unary_rpc_method_handler
            table[method.name] = make(
                in_pool(self._wrap(service.name, method, handler, pool), pool),
                request_deserializer=_reader_of(message_factory.GetMessageClass(method.input_type)),
                response_serializer=_serialize,
            )
        return table

    def _pool_of(self, service: Service, method: Any) -> _Pool:
        if method.name in service.waiting:
            return self._waiters
        return self._streams if method.client_streaming or method.server_streaming else self.singles

    def _wrap(self, service: str, method: Any, handler: Handler, pool: _Pool) -> Callable[[Any, Any], Any]:
        unary = not method.client_streaming and not method.server_streaming
        where = f"{service}/{method.name}"

        def admitted(grpc_context: Any) -> GrpcContext:
            headers = headers_of(grpc_context.invocation_metadata())
            came_ns, peer = self._now_ns(), peer_of(grpc_context.peer())

            def admit() -> Call:
                return self._authenticator.admit(service, method.name, headers, came_ns, peer)

            trailers: dict[str, str | bytes] = {} if method.server_streaming else {TIME_TRAILER: clock_text(came_ns)}
            return GrpcContext(grpc_context, admit(), admit, trailers)

        def asked(stream: Any, context: GrpcContext, open_call: OpenCall) -> Any:
            """The request: checked, or a stream of them."""
            request = None if method.client_streaming else _one_request(stream, open_call)
            if unary:
                self._authenticator.check_thread(context.call, service, method.name, request)
            if not unary or service == THREADS:
                self._authenticator.check_realm(context.call, service, method.name, request)
            return _requests(stream, context, open_call) if method.client_streaming else request

        def answer(stream: Any, grpc_context: Any) -> Any:
            try:
                with self._inside.enter(), ExitStack() as at_work:
                    context = admitted(grpc_context)
                    single = not method.client_streaming
                    open_call = OpenCall(grpc_context.cancel, single=single, admitted=context.is_admitted)
                    with pool.places.taken(context.call, open_call):
                        request = asked(stream, context, open_call)
                        if pool is not self.singles:
                            return handler(request, context)
                        if at_work.enter_context(self._queue.taken(context.call)):
                            # Who asks again meanwhile must not be answered twice: where there is a queue it would only grow.
                            context.check_active()
                    return handler(request, context)
            except Exception as error:
                self._end(grpc_context, where, error)

        def answers(stream: Any, grpc_context: Any) -> Iterator[Any]:
            try:
                with self._inside.enter():
                    context = admitted(grpc_context)
                    open_call = OpenCall(grpc_context.cancel, single=False, admitted=context.is_admitted)
                    # Closed here and now also when the client is gone: a push saves what is complete.
                    with (
                        pool.places.taken(context.call, open_call),
                        closing(handler(asked(stream, context, open_call), context)) as replies,
                    ):
                        asking = _Asking(context)
                        for reply in replies:
                            asking.now_and_then()
                            with open_call.waiting():
                                yield reply
            except Exception as error:
                self._end(grpc_context, where, error)

        return answers if method.server_streaming else answer

    def _end(self, grpc_context: Any, where: str, error: Exception) -> NoReturn:
        status = status_of(error)
        if status is None:
            # The traceback says where and what; requests and headers hold secrets and stay out of the log.
            self._log.error("%s failed", where, exc_info=error)
            status = Status(Code.INTERNAL, "internal error")
        if status.trailers:
            grpc_context.set_trailing_metadata(tuple(status.trailers.items()))
        grpc_context.abort(_CODES[status.code.value], status.text)
        raise AssertionError("abort returned")


class _Asking:
    """Asks whether a stream that goes on would still be let in: its key may have been invalidated, its session ended."""

    def __init__(self, context: GrpcContext) -> None:
        self._context = context
        self._asked_s = time.monotonic()

    def now_and_then(self) -> None:
        """Call it for each message. Raises Status."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= ADMITTED_EVERY_S:
            self._asked_s = now_s
            self._context.check_admitted()


class _Malformed:
    """Stands for a message that could not be read."""


def _reader_of(kind: Any) -> Callable[[bytes], Any]:
    """Parses a message. What fails in here grpcio answers with INTERNAL and a traceback, so it must not fail."""

    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _Malformed()

    return read


def _check_message(request: Any) -> None:
    if isinstance(request, _Malformed):
        raise Status(Code.INVALID_ARGUMENT, "the request is not the message that this method takes")


def pool_of(handler: Any) -> ThreadPoolExecutor:
    """The pool in which a handler of `Dispatcher.methods` runs."""
    pool: ThreadPoolExecutor = (handler.stream_stream or handler.stream_unary).experimental_thread_pool
    return pool


def in_pool(behave: Callable[[Any, Any], Any], pool: ThreadPoolExecutor) -> Callable[[Any, Any], Any]:
    """The same function, run by grpc in a thread of this pool."""
    behave.__dict__["experimental_thread_pool"] = pool
    return behave


def _one_request(stream: Iterator[Any], open_call: OpenCall) -> Any:
    """The one message of a call. Raises Status; CANCELLED when the client went away, or let us wait for too long."""
    try:
        with open_call.waiting():
            request = next(stream, None)
    except grpc.RpcError:
        raise Status(Code.CANCELLED, "the client went away") from None
    if request is None:
        raise Status(Code.INVALID_ARGUMENT, "the request is missing")
    _check_message(request)
    return request


def _requests(stream: Iterator[Any], context: GrpcContext, open_call: OpenCall) -> Iterator[Any]:
    """The requests of a stream. Ends at the client's half-close; raises Status CANCELLED when the client went away."""
    asking = _Asking(context)
    try:
        while True:
            with open_call.waiting():
                request = next(stream, None)
            asking.now_and_then()
            if request is None:
                break
            _check_message(request)
            yield request
    except grpc.RpcError:
        raise Status(Code.CANCELLED, "the client went away") from None
    ended = threading.Event()
    if not context.on_end(ended.set) or ended.wait(END_GRACE_S):
        raise Status(Code.CANCELLED, "the client went away")


def _serialize(reply: Any) -> bytes:
    # Asked of the reply and not of its type: a reply may be one that was put together without protobuf.
    encoded: bytes = reply.SerializeToString()
    return encoded


def _unimplemented(service: Service, name: str) -> Handler:
    def refuse(_request: Any, _context: Any) -> NoReturn:
        raise Status(Code.UNIMPLEMENTED, f"{name} {service.unimplemented}")

    return refuse
