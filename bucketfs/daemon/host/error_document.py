"""An error of ours as JSON, from one of our processes to another."""

from __future__ import annotations

from typing import Any

from bucketfs import errors
from bucketfs.errors import BucketfsError


def error_document(error: BucketfsError) -> dict[str, Any]:
    """The error as a JSON object."""
    return {"type": type(error).__name__, "message": str(error), "hint": error.hint}


def error_from_document(document: dict[str, Any]) -> BucketfsError:
    """The error that a process sent; of a type that this version does not know, a plain BucketfsError."""
    kind = getattr(errors, str(document.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, BucketfsError)):
        kind = BucketfsError
    return kind(str(document.get("message", "")), hint=str(document.get("hint", "")))
