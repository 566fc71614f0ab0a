"""Status codes and texts of a Hub, as errors."""

from __future__ import annotations

import pytest

from bucketfs.client.status_errors import MISSING_TRAILER, Failure, error_of
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Corrupt,
    Denied,
    Exists,
    HubError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    OverQuota,
    RootMoved,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from bucketfs.wire import blocks_pb2

NESTED = "saving bucket: rpc error: code = Unknown desc = "


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "connection refused", Unavailable),
        ("UNAVAILABLE", "instance not found", Unavailable),
        ("CANCELLED", "", Unavailable),
        ("INTERNAL", "Received RST_STREAM with error code 2", Unavailable),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", TimedOut),
        ("UNAUTHENTICATED", "Session or API key required", Unauthenticated),
        ("NOT_FOUND", "API key not found or is invalid", Unauthenticated),
        ("UNKNOWN", "invalid thread token", Unauthenticated),
        ("FAILED_PRECONDITION", "update is non-fast-forward", RootMoved),
        ("RESOURCE_EXHAUSTED", "network egress exhausted: request exceeds free quota", OverQuota),
        ("UNKNOWN", "adding file: storage quota exhausted", OverQuota),
        ("UNKNOWN", "number of threads per owner exceeds quota", OverQuota),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max (9 vs. 4)", TooLarge),
        ("NOT_FOUND", "Thread not found", NotFound),
        ("UNKNOWN", "getting bucket: rpc error: code = Unknown desc = instance not found", NotFound),
        ("UNKNOWN", 'no link named "file.jpg" under bafy', NotFound),
        ("UNKNOWN", "remove node failed: could not resolve path: /ipfs/bafy/a", NotFound),
        ("UNKNOWN", "no link by that name", NotFound),
        ("UNKNOWN", "mongo: no documents in result", NotFound),
        ("PERMISSION_DENIED", "User does not own thread", Denied),
        ("UNKNOWN", NESTED + "app denied net record body: permission denied", Denied),
        ("UNIMPLEMENTED", "unknown service bucketfs.v1.Blocks", Unsupported),
        ("INVALID_ARGUMENT", "bad id", InvalidArgument),
        ("UNKNOWN", "db required", InvalidArgument),
        ("RESOURCE_EXHAUSTED", "too many calls at once: one account may have 128 of this hub's 256 open", Unavailable),
        ("DATA_LOSS", "a block is damaged", Corrupt),
        ("UNKNOWN", "message corrupt or incorrect password", Corrupt),
        ("UNKNOWN", "E11000 duplicate key error collection", Exists),
        ("FAILED_PRECONDITION", "Account exists", Exists),
        ("FAILED_PRECONDITION", "DB not empty (delete buckets first)", NotEmpty),
        ("UNKNOWN", "node is a directory", IsADirectory),
        ("UNKNOWN", "not a directory", NotADirectory),
        ("UNKNOWN", "parsing path: paths containing .textileseed are not allowed", NotPermitted),
        ("UNKNOWN", "something else", HubError),
        ("INTERNAL", "something else", HubError),
    ],
)
def test_table(code: str, details: str, kind: type[BucketfsError]) -> None:
    """Each refusal of a Hub reaches the user as the error it means, though a Go Hub gives nearly all of them one code."""
    error = error_of(Failure(code, details), "Root at the Hub h:1")
    assert type(error) is kind
    assert str(error).startswith("Root at the Hub h:1: ")
    if isinstance(error, HubError):
        assert (error.code, error.details) == (code, details)


def test_missing_blocks() -> None:
    """A push that met a Hub without its blocks learns which ones to send again."""
    trailer = blocks_pb2.MissingBlocks(cids=[b"one", b"two"]).SerializeToString()
    error = error_of(Failure("NOT_FOUND", "missing", [("other", "x"), (MISSING_TRAILER, trailer)]), "SwapRoot")
    assert isinstance(error, BlocksMissing)
    assert error.cids == (b"one", b"two")
    assert type(error_of(Failure("NOT_FOUND", "missing", [(MISSING_TRAILER, b"\xff")]), "SwapRoot")) is NotFound


def test_an_answer_without_text_names_its_code() -> None:
    """A refusal without words still says something."""
    assert "INTERNAL" in str(error_of(Failure("INTERNAL", ""), "Root"))
