"""What a Hub says about buckets and the paths in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bucketfs.roles import Role
from bucketfs.types import BucketKey, Cid, ThreadId


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """One bucket. Times are nanoseconds since 1970; ``owner`` is a public-key text or empty."""

    key: BucketKey
    name: str
    thread: ThreadId
    root: Cid
    created_at_ns: int
    updated_at_ns: int
    private: bool
    owner: str


@dataclass(frozen=True, slots=True)
class AccountQuota:
    """What the paying account may store and has stored, in bytes of trees; 0 is no limit, or none that the Hub tells.
    ``bucket_bytes_limit`` holds for each bucket."""

    bytes_limit: int = 0
    bytes_used: int = 0
    bucket_bytes_limit: int = 0


@dataclass(frozen=True, slots=True)
class Holdings:
    """The buckets of the acting account, in all its threads, and its limits."""

    buckets: list[BucketInfo]
    limits: AccountQuota


@dataclass(frozen=True, slots=True)
class PathRights:
    """What a bucket records for one path: the roles given there, and when it was last written."""

    roles: Mapping[str, Role]
    updated_at_ns: int


@dataclass(frozen=True, slots=True)
class BucketDetails:
    """A bucket with what it records for its paths (as far as the caller may see them); ``""`` is the root."""

    info: BucketInfo
    paths: Mapping[str, PathRights]


@dataclass(frozen=True, slots=True)
class Links:
    """Where browsers find a path: by thread, as a website (empty without a bucket domain), by IPNS."""

    url: str
    www: str
    ipns: str


@dataclass(frozen=True, slots=True)
class PathItem:
    """A file or folder as ``ListPath`` shows it. ``tsize`` is the cumulative size of its DAG, not the length of the file.

    ``items`` are the direct children of the listed folder; a child folder has its ``items_count`` only. ``updated_at_ns`` is that
    of the nearest path with one recorded, 0 when none is visible.
    """

    name: str
    cid: Cid
    tsize: int
    is_directory: bool
    items_count: int
    updated_at_ns: int
    items: tuple[PathItem, ...] = field(default=())
