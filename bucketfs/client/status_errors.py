"""What a failed call means: status code and text of a Hub, as one of our errors.

A Go Hub answers most failures with code UNKNOWN, so the text counts more than the code: texts are looked up in the order of the
table, then the code (textileio/textile ``api/*``, go-threads ``api/service.go``; its own command line and tests look for the same
texts). These texts are matched in no other file. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import DecodeError

from bucketfs import errors
from bucketfs.client.hub_clock import HINT, TIME_TRAILER, behind_text, hub_time
from bucketfs.keys import SIGNATURE_LIFETIME
from bucketfs.wire import blocks_pb2

MISSING_TRAILER = "bucketfs-missing-bin"
"""The trailer of ``SwapRoot`` that lists blocks the Hub lacks (``MissingBlocks`` of blocks.proto)."""

DETAIL_TRAILER = "bucketfs-detail"
"""The trailer of a refusal: which of the reasons that share one text of the protocol it is."""

WARNING_TRAILER = "bucketfs-warning"
"""The trailer of a success with something that the user should know."""

DISK_FULL = "the disk of the hub is full"
"""The text of the embedded Hub, with UNAVAILABLE, when its disk has no room."""

BAD_SIGNATURE = "Bad API key signature"
NON_FAST_FORWARD = "update is non-fast-forward"

_TEXTS: tuple[tuple[str, type[errors.BucketfsError]], ...] = (
    (NON_FAST_FORWARD, errors.RootMoved),
    ("API key not found or is invalid", errors.Unauthenticated),
    ("invalid thread token", errors.Unauthenticated),
    ("thread token not found", errors.Unauthenticated),
    ("invalid token public key", errors.Unauthenticated),
    ("Bad authorization", errors.Unauthenticated),
    ("session not found", errors.Unauthenticated),
    # These two are about who calls, not about a path.
    (BAD_SIGNATURE, errors.Unauthenticated),
    ("Bad API key", errors.Unauthenticated),
    ("User is not an org member", errors.Unauthenticated),
    ("exceeds quota", errors.OverQuota),
    ("quota exhausted", errors.OverQuota),
    ("exceeds free quota", errors.OverQuota),
    ("paths containing .textileseed are not allowed", errors.NotPermitted),
    ("E11000 duplicate key error", errors.Exists),
    ("db already exists", errors.Exists),
    ("thread already exists", errors.Exists),
    ("collection already registered", errors.Exists),
    ("Account exists", errors.Exists),
    ("is already taken", errors.Exists),
    ("is not available", errors.Exists),
    ("delete buckets first", errors.NotEmpty),
    ("delete orgs first", errors.NotEmpty),
    ("message corrupt or incorrect password", errors.Corrupt),
    ("node is a directory", errors.IsADirectory),
    ("not a directory", errors.NotADirectory),
    ("permission denied", errors.Denied),
    ("app denied net record body", errors.Denied),
    ("User does not own", errors.Denied),
    ("no link named", errors.NotFound),
    ("no link by that name", errors.NotFound),
    ("could not resolve path", errors.NotFound),
    ("instance not found", errors.NotFound),
    ("collection not found", errors.NotFound),
    ("thread not found", errors.NotFound),
    ("Thread not found", errors.NotFound),
    ("db not found", errors.NotFound),
    ("mail not found", errors.NotFound),
    ("mongo: no documents in result", errors.NotFound),
    ("method failed: unknown service", errors.Unsupported),
    ("archiving feature is disabled", errors.Unsupported),
    ("billing is not enabled", errors.Unsupported),
    ("account type not supported", errors.Unsupported),
    ("db required", errors.InvalidArgument),
    ("source is root directory", errors.InvalidArgument),
    ("invalid bootstrap cid", errors.InvalidArgument),
    ("invalid remote cid", errors.InvalidArgument),
    # What gRPC itself says of a message beyond a limit, and what it and a Hub say when all places are taken.
    ("message larger than max", errors.TooLarge),
    ("too many calls at once", errors.Unavailable),
    ("Concurrent RPC limit exceeded", errors.Unavailable),
    # A proxy or a dying server that resets the stream answers INTERNAL or CANCELLED with this.
    ("RST_STREAM", errors.Unavailable),
)

_CODES: dict[str, type[errors.BucketfsError]] = {
    "CANCELLED": errors.Unavailable,
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "DEADLINE_EXCEEDED": errors.TimedOut,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.Exists,
    "PERMISSION_DENIED": errors.Denied,
    "RESOURCE_EXHAUSTED": errors.OverQuota,
    "ABORTED": errors.Unavailable,
    "UNIMPLEMENTED": errors.Unsupported,
    "UNAVAILABLE": errors.Unavailable,
    "DATA_LOSS": errors.Corrupt,
    "UNAUTHENTICATED": errors.Unauthenticated,
}

_HINTS: dict[type[errors.BucketfsError], str] = {
    errors.Unavailable: "is the Hub running, and is its address right?",
    errors.HubFull: "make room on the Hub's disk: remove files, then run 'bucketfs hub gc' there; it is tried again by itself",
    errors.TimedOut: "the Hub or the way to it is slow; try again, or with a longer --timeout",
    errors.Unauthenticated: "check the API key and secret (or the session) of this profile",
    errors.OverQuota: "remove something, or ask the owner of the Hub for more",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ended: the name of its status code, its text, its trailers (and the headers before it, if any)."""

    code: str
    details: str
    trailers: Sequence[tuple[str, str | bytes]] = ()


def error_of(failure: Failure, attempted: str, now: datetime | None = None) -> errors.BucketfsError:
    """``failure`` as an error. ``attempted`` ("Root at 127.0.0.1:3006") begins its message; ``now`` is this machine's clock, for a
    refusal that is about time."""
    missing = _missing_of(failure.trailers)
    text = _plain(failure)
    if missing:
        return errors.BlocksMissing(
            f"{attempted}: the Hub lacks {len(missing)} blocks that the new root needs", cids=missing
        )
    kind = _kind_of(failure)
    detail = _text_of(failure.trailers, DETAIL_TRAILER)
    message = f"{attempted}: {text}" + (f" ({detail})" if detail else "")
    hint = _HINTS.get(kind, "")
    clocks = _clocks_apart(failure, now) if now is not None else ""
    if clocks:
        message, hint = f"{attempted}: the signature has expired: {clocks}", HINT
    if issubclass(kind, errors.HubError):
        return kind(message, hint=hint, code=failure.code, details=failure.details)
    return kind(message, hint=hint)


_PLAIN: tuple[tuple[str, str], ...] = (
    (NON_FAST_FORWARD, "another client has changed the bucket meanwhile"),
    ("no link named", "there is no such file or folder"),
    ("no link by that name", "there is no such file or folder"),
    ("could not resolve path", "there is no such file or folder"),
    ("instance not found", "there is no such bucket, or it is not shared with you"),
    ("mongo: no documents in result", "there is no such thing at the Hub, or no more"),
    ("E11000 duplicate key error", "there is one of that name already"),
    ("collection not found", "there is no such collection"),
    ("db not found", "there is no such thread"),
    ("failed to connect to all addresses", "it cannot be reached"),
    ("DNS resolution failed", "the name of its machine is not known"),
    ("Deadline Exceeded", "it did not answer in time"),
    ("Socket closed", "the connection broke"),
    ("Stream removed", "the connection broke"),
    ("RST_STREAM", "the connection broke"),
    ("recvmsg:", "the connection broke"),
    ("GOAWAY", "the connection broke"),
    ("Broken pipe", "the connection broke"),
)
"""Texts of a Hub's parts (MongoDB, go-ipfs) and of gRPC in plain words; other texts are shown as they came. ``details`` keeps the
original, and ``-v`` shows it."""

_ERRNO_TEXT = re.compile(
    r"(Connection refused|No such file or directory|Network is unreachable|No route to host|Connection timed out)"
)


def _plain(failure: Failure) -> str:
    plain = next((ours for theirs, ours in _PLAIN if theirs in failure.details), "")
    if not plain:
        return " ".join(failure.details.split()) or failure.code
    why = _ERRNO_TEXT.search(failure.details) if failure.code == "UNAVAILABLE" else None
    return f"{plain} ({why[1].lower()})" if why else plain


def _kind_of(failure: Failure) -> type[errors.BucketfsError]:
    if failure.code == "UNAVAILABLE" and DISK_FULL in failure.details:
        return errors.HubFull
    if failure.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED"):
        return _CODES[failure.code]
    for text, kind in _TEXTS:
        if text in failure.details:
            return kind
    return _CODES.get(failure.code, errors.HubError)


def warning_of(trailers: Sequence[tuple[str, str | bytes]]) -> str:
    """What the Hub wants the user to know beside a success, as one line; empty for nothing."""
    return _text_of(trailers, WARNING_TRAILER)


def _clocks_apart(failure: Failure, now: datetime) -> str:
    """By how much the clocks differ, in words, if that is why the signature was refused."""
    told = hub_time(failure.trailers)
    if told is None or BAD_SIGNATURE not in failure.details:
        return ""
    # With its own trailer the Hub says that the date was the reason. An HTTP date tells that only when it is past what was signed.
    if all(name != TIME_TRAILER for name, _ in failure.trailers) and told - now < SIGNATURE_LIFETIME:
        return ""
    return behind_text(told - now)


def _text_of(trailers: Sequence[tuple[str, str | bytes]], wanted: str) -> str:
    return next((" ".join(value.split()) for name, value in trailers if name == wanted and isinstance(value, str)), "")


def _missing_of(trailers: Sequence[tuple[str, str | bytes]]) -> tuple[bytes, ...]:
    for name, value in trailers:
        if name == MISSING_TRAILER and isinstance(value, bytes):
            try:
                return tuple(blocks_pb2.MissingBlocks.FromString(value).cids)
            except DecodeError:
                return ()
    return ()
