"""A proxy that carries every call to a Hub but ``Listen``, as a web proxy between a mount and a Hub might.

It refuses that call (``refuse``: UNIMPLEMENTED, as by a Hub that has no feed) or takes it and never says a word. On the wire of
gRPC a unary call is a stream of one message, so one forwarder of raw bytes does for all methods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from support.served import free_address

THREADS = 32
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class _Forwarder(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, channel: Any, refuse: bool, over: threading.Event) -> None:
        self._channel = channel
        self._refuse = refuse
        self._over = over
        self.listens = 0

    def service(self, details: Any) -> Any:
        method = details.method

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            metadata = [
                (key, value) for key, value in context.invocation_metadata() if not key.startswith(("grpc-", "user-"))
            ]
            call = self._channel.stream_stream(method)(requests, metadata=metadata)
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError:
                # Told below, with the trailers.
                context.set_code(call.code())
                context.set_details(call.details() or "")
            context.set_trailing_metadata(call.trailing_metadata() or ())

        def silent(_requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            self.listens += 1
            if self._refuse:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method Listen")
            context.send_initial_metadata(())
            gone = threading.Event()
            if context.add_callback(gone.set):
                while not (gone.wait(0.2) or self._over.is_set()):
                    pass
            yield from ()

        return grpc.stream_stream_rpc_method_handler(silent if method.endswith("/Listen") else forward)


@contextmanager
def feedless(target: str, *, refuse: bool = True) -> Iterator[str]:
    """The address of such a proxy before ``target``, which may come and go."""
    over = threading.Event()
    with grpc.insecure_channel(target, options=OPTIONS) as channel, ThreadPoolExecutor(THREADS) as threads:
        server = grpc.server(threads, handlers=(_Forwarder(channel, refuse, over),), options=OPTIONS)
        address = free_address()
        assert server.add_insecure_port(address)
        server.start()
        try:
            yield address
        finally:
            over.set()
            server.stop(1).wait()


def silent(target: str) -> Any:
    """`feedless`, by silence."""
    return feedless(target, refuse=False)
