"""Paths in a mount and paths in its buckets: what a user names, and what a bucket names. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MountPaths:
    """A mount: at ``mountpoint``, of all buckets, or (``single``) of one or its folder ``prefix``."""

    mountpoint: Path
    single: bool
    prefix: str

    def inside(self, folder: bytes, path: str) -> str | None:
        """The path inside the mount of ``path`` in the bucket whose folder is ``folder``; None for what the mount does not show.
        Folders above the prefix are shown as the mount's root."""
        if not self.single:
            return join(folder.decode(errors="replace"), path)
        if is_under(self.prefix, path):
            return path if not self.prefix else ""
        return path[len(self.prefix) + 1 if self.prefix else 0 :] if is_under(path, self.prefix) else None

    def absolute(self, inside: str) -> str:
        """The absolute path of a path inside the mount."""
        return join(str(self.mountpoint), inside)


def join(above: str, below: str) -> str:
    """Two paths as one; either may be empty."""
    return f"{above}/{below}" if above and below else above or below


def is_under(path: str, above: str) -> bool:
    """Whether ``path`` is ``above`` or lies in it; everything lies in the empty path."""
    return not above or path == above or path.startswith(f"{above}/")
