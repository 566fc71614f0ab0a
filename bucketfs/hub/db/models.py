"""The rows of a Hub's database as frozen values. Pure: access rules and services work on these."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from bucketfs.keys import KeyType
from bucketfs.types import BucketKey, Cid, ThreadId

BUCKET_VERSION = 1


class AccountKind(enum.Enum):
    """What the acting account is. A USER is only the subject of a token: no account record needs to exist."""

    NOBODY = "nobody"
    DEVELOPER = "developer"
    ORG = "org"
    USER = "user"


@dataclass(frozen=True, slots=True)
class PathEntry:
    """What a bucket knows about one path: its file key (private buckets), who may do what, when it changed."""

    key: bytes | None = field(default=None, repr=False)
    roles: Mapping[str, int] = field(default_factory=dict)
    updated_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One bucket. ``entries`` maps paths without a leading slash (``""`` is the root) to entries; never change it in place."""

    key: BucketKey
    thread: ThreadId
    owner: str
    """Public key text, or ``""`` for a bucket that anyone may change."""
    name: str
    version: int
    link_key: bytes | None = field(repr=False)
    root: Cid
    entries: Mapping[str, PathEntry] = field(repr=False)
    created_at_ns: int
    updated_at_ns: int
    revision: int = 0
    """Counts saves. A save must be based on the stored revision, so that a change of roles between reading and saving is
    noticed too. Carry it along (``dataclasses.replace`` does)."""
    size_bytes: int = 0
    """Cumulative size of the tree at ``root``: what counts against the limits. Code that sets ``root`` sets it too."""

    @property
    def private(self) -> bool:
        return self.link_key is not None


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A developer or an org. The hub holds the private keys of both."""

    account: str
    """Public key text."""
    kind: AccountKind
    username: str
    """Username of a developer, slug of an org: one namespace, unique without case."""
    name: str
    """What an org was called when it was made; a developer's username."""
    email: str
    seed: bytes = field(repr=False)
    created_at_ns: int


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What an account has, its users together with itself; ``bytes`` is the sum of the sizes of the buckets."""

    threads: int = 0
    buckets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A developer in an org."""

    org: str
    member: str
    role: str
    """``owner`` or ``member``."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key. ``threads`` is filled in by ``HubDatabase.keys`` only."""

    key: str
    secret: str = field(repr=False)
    owner: str
    type: KeyType
    secure: bool
    valid: bool
    threads: int = 0


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A signed-in developer. The session text itself is not stored, only its hash."""

    user: str
    expires_at_ns: int


@dataclass(frozen=True, slots=True)
class InviteRow:
    """An invitation to an org. The token itself is not stored, only its hash."""

    org: str
    sender: str
    email: str
    accepted: bool
    expires_at_ns: int


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """A thread and who owns it."""

    id: ThreadId
    owner: str
    name: str
    """As ``GetThread`` finds it; may be empty."""
    db_name: str
    """As ``GetDBInfo`` tells it."""
    api_key: str
    is_db: bool
    key: bytes = field(repr=False)
    """Service key and read key, 64 bytes."""
    created_at_ns: int
    realm: str = ""
    """Who owned the user group key that the thread was made with; ``""`` for one that an account made for itself. The users
    of one app are those of all keys of its owner, and no others."""

    @property
    def payer(self) -> str:
        """The account whose limits the thread and what is in it count against."""
        return self.realm or self.owner
