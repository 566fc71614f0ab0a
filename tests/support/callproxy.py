"""A proxy between a mount and its Hub that knows calls, and treats the feed of changes (``Listen``) as it is told: a web proxy or a
Hub of another make might do the same to it.

On the wire of gRPC a unary call is a stream of one message, so one forwarder of raw bytes does for all methods.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from support.served import free_address

THREADS = 32
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
LOOK_S = 0.05


class Feed(enum.Enum):
    """What becomes of a ``Listen`` that comes in."""

    OPEN = "it is carried as any call"
    REFUSED = "UNIMPLEMENTED"
    SILENT = "it is taken, and nothing is ever said"
    HELD = "it is not passed on before `feed` is another"


class CallProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A context manager. ``feed`` may be changed at any time, and holds for calls that come in or are held."""

    def __init__(self, target: str, feed: Feed) -> None:
        self.feed = feed
        self.listens = 0
        self.address = free_address()
        self._channel = grpc.insecure_channel(target, options=OPTIONS)
        self._threads = ThreadPoolExecutor(THREADS)
        self._server = grpc.server(self._threads, handlers=(self,), options=OPTIONS)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        assert self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._server.stop(0).wait()
        self._channel.close()
        self._threads.shutdown()

    def service(self, details: Any) -> Any:
        method = details.method

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            if method.endswith("/Listen"):
                self.listens += 1
                self._hold(context)
            # gRPC adds its own again.
            metadata = [pair for pair in context.invocation_metadata() if not pair[0].startswith(("grpc-", "user-agent"))]
            call = self._channel.stream_stream(method)(requests, metadata=metadata)
            if not context.add_callback(call.cancel):
                call.cancel()
            context.send_initial_metadata(call.initial_metadata() or ())
            try:
                yield from call
            except grpc.RpcError:
                # Told below, with the trailers.
                context.set_code(call.code())
                context.set_details(call.details() or "")
            context.set_trailing_metadata(call.trailing_metadata() or ())

        return grpc.stream_stream_rpc_method_handler(forward)

    def _hold(self, context: Any) -> None:
        if self.feed is Feed.SILENT:
            context.send_initial_metadata(())
        while self.feed in (Feed.HELD, Feed.SILENT) and context.is_active() and not self._over.is_set():
            time.sleep(LOOK_S)
        if self.feed is Feed.REFUSED or self._over.is_set():
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method Listen")
