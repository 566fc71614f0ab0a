"""Roles in a bucket, and what a role allows. Pure.

A role is granted on a path to a public key or to everybody (``*``). It holds for the path and all below it, and of two roles
the larger wins. Readers see, writers replace what is there, admins also remove it and grant roles; only the owner of the bucket
adds paths (write validator and read filter of the ``buckets`` collection, textileio/textile ``threaddb``). The Hub enforces this
on every call; a mount asks the same rule first, so that a program learns of a refusal with its write.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

EVERYBODY = "*"


class Role(enum.IntEnum):
    """What a user may do to a path and everything below it (``PathAccessRole`` of the bucket service)."""

    NONE = 0
    READER = 1
    WRITER = 2
    ADMIN = 3


class PathChange(enum.Enum):
    """What a change does to one path."""

    ADD = "added"
    REPLACE = "changed"
    REMOVE = "removed"


def may_change(change: PathChange, *, is_owner: bool, own: int, everybody: int) -> bool:
    """Whether a user may change a path so, with these roles there: the user's ``own``, and the one of everybody."""
    if change is PathChange.ADD:
        return is_owner
    # The role of everybody makes anyone a writer, never an admin: removing and granting look at the user's own role only.
    if change is PathChange.REMOVE:
        return own >= Role.ADMIN
    return max(own, everybody) >= Role.WRITER


def lineage(path: str) -> Iterator[str]:
    """The path, then each of its ancestors up to ``""``."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
