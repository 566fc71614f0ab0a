"""How a call ends when it does not end well: a gRPC code, a text for the client and, rarely, trailing metadata.

Handlers raise ``Status``; they never see grpc. Clients of this protocol match on texts far more than on codes, so a text is
part of the interface. Other errors of ours that reach the top of a handler are translated by one table, here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bucketfs import errors


class Code(enum.Enum):
    """The gRPC status codes that a hub answers, by number (gRPC core, statuscodes)."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Status(Exception):
    """Ends a call with ``code`` and ``text``. ``trailers`` are sent as trailing metadata (names ending in -bin carry
    bytes)."""

    def __init__(self, code: Code, text: str, *, trailers: Mapping[str, str | bytes] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.trailers: dict[str, str | bytes] = dict(trailers or {})

    def __str__(self) -> str:
        return f"{self.code.name}: {self.text}"


# First match decides, so leaves stand before their parents.
_OURS: tuple[tuple[type[errors.BucketfsError], Code], ...] = (
    (errors.NotFound, Code.NOT_FOUND),
    (errors.Exists, Code.ALREADY_EXISTS),
    (errors.Denied, Code.PERMISSION_DENIED),
    (errors.NotPermitted, Code.PERMISSION_DENIED),
    (errors.InvalidArgument, Code.INVALID_ARGUMENT),
    (errors.NameInvalid, Code.INVALID_ARGUMENT),
    (errors.NameTooLong, Code.INVALID_ARGUMENT),
    (errors.TooLarge, Code.INVALID_ARGUMENT),
    (errors.Unsupported, Code.UNIMPLEMENTED),
    (errors.Refused, Code.FAILED_PRECONDITION),
    (errors.Unauthenticated, Code.UNAUTHENTICATED),
    (errors.RootMoved, Code.FAILED_PRECONDITION),
    (errors.BlocksMissing, Code.NOT_FOUND),
    (errors.OverQuota, Code.RESOURCE_EXHAUSTED),
    (errors.Corrupt, Code.DATA_LOSS),
    (errors.TimedOut, Code.UNAVAILABLE),
    # A full disk of the hub is the hub's trouble, not the caller's quota: a client should come back later.
    (errors.NoSpace, Code.UNAVAILABLE),
    (errors.TooManyOpen, Code.UNAVAILABLE),
    (errors.Unavailable, Code.UNAVAILABLE),
)

NON_FAST_FORWARD = "update is non-fast-forward"
"""What every client looks for when a compare-and-swap failed."""


def status_of(error: BaseException) -> Status | None:
    """The status for an error that we know how to explain; ``None`` for one that only a bug or a broken disk explains."""
    if isinstance(error, Status):
        return error
    if isinstance(error, errors.RootMoved):
        return Status(Code.FAILED_PRECONDITION, NON_FAST_FORWARD)
    for kind, code in _OURS:
        if isinstance(error, kind):
            return Status(code, str(error))
    return None


@contextmanager
def answered(kind: type[errors.BucketfsError], code: Code, text: str | None = None) -> Iterator[None]:
    """Ends the call with ``code`` where ``kind`` is raised, and with its text unless ``text`` is given."""
    try:
        yield
    except kind as error:
        raise Status(code, str(error) if text is None else text) from error
