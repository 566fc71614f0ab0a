"""A client that knows nothing but descriptors and headers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Caller:
    """Calls by full service name. ``headers`` go along with each; grpc errors come out as they are."""

    channel: Any
    headers: dict[str, str] = field(default_factory=dict)

    def using(self, **headers: str) -> Caller:
        """The same channel with more headers: ``using(x_textile_thread="…")``. An empty value takes one away."""
        merged = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return replace(self, headers={name: value for name, value in merged.items() if value})

    def start(self, service: str, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The call itself: a future of a reply, or an iterator of replies."""
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
        streams = (described.client_streaming, described.server_streaming)
        names = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}
        make = getattr(self.channel, names.get(streams, "stream_stream"))
        stub = make(
            f"/{service}/{method}",
            request_serializer=message_factory.GetMessageClass(described.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        start = stub if described.server_streaming else stub.future
        return start(request, metadata=tuple(self.headers.items()), timeout=timeout_s)

    def call(self, service: str, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The reply, or the list of replies."""
        answer = self.start(service, method, request, timeout_s)
        streamed = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method].server_streaming
        return list(answer) if streamed else answer.result()

    def refused(self, service: str, method: str, request: Any) -> tuple[str, str]:
        """Code name and text of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(service, method, request)
        return caught.value.code().name, caught.value.details()
