"""The one place where handlers meet grpc: admission before them, status after them, streams around them.

``handlers`` turns a ``Service`` into the method table that grpc wants, with shapes taken from the protobuf descriptors.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bucketfs.hub.auth import THREADS, Authenticator, headers_of
from bucketfs.hub.call import Call, Context
from bucketfs.hub.service import Handler, Service
from bucketfs.hub.status import Code, Status, status_of

END_GRACE_S = 0.01
"""How long the end of a request stream is doubted. grpcio reports a client that went away as an ordinary end of the stream
and, in up to a third of the cases, only afterwards as a call that ended. Measured: below 1 ms later on an idle machine;
with eight threads competing for the interpreter the end of the call was always known first."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcContext(Context):
    """``call.Context`` over grpcio's."""

    def __init__(self, grpc_context: Any, call: Call, readmit: Callable[[], Any]) -> None:
        self._grpc = grpc_context
        self._call = call
        self._readmit = readmit

    @property
    def call(self) -> Call:
        return self._call

    def check_admitted(self) -> None:
        self._readmit()

    def is_active(self) -> bool:
        return bool(self._grpc.is_active())

    def check_active(self) -> None:
        if not self._grpc.is_active():
            raise Status(Code.CANCELLED, "the client went away")

    def on_end(self, callback: Callable[[], None]) -> bool:
        return bool(self._grpc.add_callback(callback))

    def time_remaining_s(self) -> float | None:
        remaining: float | None = self._grpc.time_remaining()
        return remaining

    def send_headers(self) -> None:
        self._grpc.send_initial_metadata(())

    def set_trailers(self, trailers: dict[str, str | bytes]) -> None:
        self._grpc.set_trailing_metadata(tuple(trailers.items()))


class Gate:
    """Admits calls, runs handlers, and explains how they ended."""

    def __init__(self, authenticator: Authenticator, log: logging.Logger, waiters: ThreadPoolExecutor) -> None:
        self._authenticator = authenticator
        self._log = log
        self._waiters = waiters

    def handlers(self, service: Service) -> Any:
        """A grpc generic handler for every method of the service; those without a function answer UNIMPLEMENTED."""
        table: dict[str, Any] = {}
        described = descriptor_pool.Default().FindServiceByName(service.name)
        unknown = service.methods.keys() - {method.name for method in described.methods}
        assert not unknown, f"{service.name} has no {unknown}"
        for method in described.methods:
            handler = service.methods.get(method.name) or _unimplemented(service, method.name)
            behave = self._wrap(service.name, method, handler)
            if method.name in service.waiting:
                behave.experimental_thread_pool = self._waiters  # type: ignore[attr-defined]
            make = (
                (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler),
                (grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler),
            )[method.client_streaming][method.server_streaming]
            table[method.name] = make(
                behave,
                request_deserializer=_reader_of(message_factory.GetMessageClass(method.input_type)),
                response_serializer=_serialize,
            )
        return grpc.method_handlers_generic_handler(service.name, table)

    def _wrap(self, service: str, method: Any, handler: Handler) -> Callable[[Any, Any], Any]:
        unary = not method.client_streaming and not method.server_streaming

        def start(request: Any, grpc_context: Any) -> Any:
            headers = headers_of(grpc_context.invocation_metadata())
            came_ns = time.time_ns()

            def admit() -> Call:
                return self._authenticator.admit(service, method.name, headers, came_ns)

            call = admit()
            _check_message(request)
            if unary:
                self._authenticator.check_thread(call, service, method.name, request)
            if not unary or service == THREADS:
                self._authenticator.check_realm(call, service, method.name, request)
            context = GrpcContext(grpc_context, call, admit)
            return handler(_requests(request, context) if method.client_streaming else request, context)

        def answer(request: Any, grpc_context: Any) -> Any:
            try:
                return start(request, grpc_context)
            except Exception as error:
                self._end(grpc_context, f"{service}/{method.name}", error)

        def answers(request: Any, grpc_context: Any) -> Iterator[Any]:
            try:
                yield from start(request, grpc_context)
            except Exception as error:
                self._end(grpc_context, f"{service}/{method.name}", error)

        return answers if method.server_streaming else answer

    def _end(self, grpc_context: Any, where: str, error: Exception) -> NoReturn:
        status = status_of(error)
        if status is None:
            # The traceback says where and what; requests and metadata hold secrets and stay out of the log.
            self._log.error("%s failed", where, exc_info=error)
            status = Status(Code.INTERNAL, "internal error")
        if status.trailers:
            grpc_context.set_trailing_metadata(tuple(status.trailers.items()))
        grpc_context.abort(_CODES[status.code.value], status.text)
        raise AssertionError("abort returned")


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


def _requests(stream: Iterator[Any], context: GrpcContext) -> Iterator[Any]:
    """The requests of a stream. Ends at the client's half-close; raises Status CANCELLED when the client went away."""
    try:
        for request in stream:
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
