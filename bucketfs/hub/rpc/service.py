"""What a service is: the full name of a protobuf service and a Python function per method.

The shapes of requests and replies and the streaming kinds come from the descriptors, so a service file only names methods:

    unary       def Root(request, context) -> RootResponse
    stream out  def PullPath(request, context) -> Iterator[PullPathResponse]
    stream in   def Put(requests: Iterator[PutRequest], context) -> PutReply
    both        def PushPath(requests: Iterator[...], context) -> Iterator[...]

A request iterator ends at the client's half-close, and raises ``Status(CANCELLED)`` when the client went away instead: input
that was cut off is never taken for complete input. Methods of the service that are not in ``methods`` answer UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[Any, Any], Any]
"""``(request or iterator of requests, context: call.Context) -> reply or iterator of replies``; raises ``Status``."""


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
