"""What the user of a mount may do to which path, by the rule of ``bucketfs.roles``. Pure.

It is asked here so that the answer comes with the write. The Hub has the last word, on every push; what is decided here only
spares a program the belief that a change went through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bucketfs.roles import EVERYBODY, PathChange, Role, lineage, may_change

Roles = Mapping[str, Mapping[str, int]]
"""By path (``""`` is the whole bucket), then by public key: the role given there."""


@dataclass(frozen=True)
class Permissions:
    """Of one user in one bucket."""

    me: str
    owner: str
    roles: Roles
    _leading: frozenset[str] = field(init=False, repr=False, compare=False)
    """Paths above those that may be read."""

    def __post_init__(self) -> None:
        readable = [path for path, given in self.roles.items() if given.get(self.me, 0) or given.get(EVERYBODY, 0)]
        above = {place for path in readable for place in lineage(path)}
        object.__setattr__(self, "_leading", frozenset(above))

    def may(self, path: str, change: PathChange) -> bool:
        """Whether a path that stands in the base (for ADD: does not) may be changed so."""
        roles = {"own": self._role(self.me, path), "everybody": self._role(EVERYBODY, path)}
        return may_change(change, is_owner=self.me == self.owner, **roles)

    def shows(self, path: str) -> bool:
        """Whether a path may be read, or leads to one that may."""
        return path in self._leading or max(self._role(self.me, path), self._role(EVERYBODY, path)) >= Role.READER

    def _role(self, who: str, path: str) -> int:
        return max((self.roles[place].get(who, 0) for place in lineage(path) if place in self.roles), default=0)


def permissions_of(me: str, owner: str, roles: Roles) -> Permissions | None:
    """The permissions of ``me``; None when nothing is refused, which is the rule: the owner with the role that creation gave, and
    buckets without an owner. Of an unknown user (empty) nothing can be said, so the Hub alone decides."""
    if not owner or not me or (me == owner and roles.get("", {}).get(me, 0) >= Role.ADMIN):
        return None
    return Permissions(me, owner, roles)
