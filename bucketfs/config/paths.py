"""Where files are: XDG folders, and names for what belongs to one mount.

Sockets live in a folder that only their user can enter. Without ``$XDG_RUNTIME_DIR`` (cron, sudo, a bare container) the same
folder is found by the user's number, so that ``bucketfs status`` from any shell of a user finds every mount of that user.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from bucketfs.disk import make_private_folder
from bucketfs.errors import NotPermitted

APPLICATION = "bucketfs"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one user. None is made here."""

    config: Path
    state: Path
    data: Path
    cache: Path
    runtime: Path

    @property
    def config_file(self) -> Path:
        """Settings; may be missing."""
        return self.config / "config.toml"

    @property
    def credentials_file(self) -> Path:
        """Secrets, mode 0600; may be missing."""
        return self.config / "credentials.toml"

    def control_socket(self, mountpoint: Path) -> Path:
        """The control socket of the mount at ``mountpoint`` (absolute). Short: a socket's path has at most 107 bytes."""
        return self.runtime / f"mount-{tag(mountpoint)}.sock"

    def log_file(self, mountpoint: Path) -> Path:
        """Where the daemon behind ``mountpoint`` writes its log when nobody else takes it."""
        return self.state / "log" / f"mount-{tag(mountpoint)}.log"

    def hub_socket(self, data: Path) -> Path:
        """The socket of the embedded Hub whose stores are in ``data`` (absolute)."""
        return self.runtime / f"hub-{tag(data)}.sock"


def tag(path: Path) -> str:
    """A short name for a path: 16 hex digits of a hash."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def find_places(environ: Mapping[str, str]) -> Places:
    """The folders of whoever runs this. ``environ`` decides about the runtime folder only; platformdirs reads the rest
    itself."""
    folders = platformdirs.PlatformDirs(APPLICATION, appauthor=False)
    return Places(
        config=Path(folders.user_config_dir),
        state=Path(folders.user_state_dir),
        data=Path(folders.user_data_dir),
        cache=Path(folders.user_cache_dir),
        runtime=_runtime(environ),
    )


OWNER_ONLY = 0o077
"""The umask of the processes that live on: what they make is their user's alone. Programs on a mount bring their own."""


def make_private(folder: Path) -> Path:
    """Make ``folder`` (and those above it) with mode 0700. Raises NotPermitted when it is there and somebody else could have
    put things into it: in a shared /tmp anyone may have made it first."""
    make_private_folder(folder)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise NotPermitted(
            f"{folder} belongs to someone else (uid {facts.st_uid})", hint="set XDG_RUNTIME_DIR to a folder of yours"
        )
    if facts.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def close_to_others(places: Places) -> None:
    """Our own top folders are this user's alone, also those that an open umask left otherwise. What stands above them, or behind a
    symlink to somewhere else, is the user's affair."""
    for folder in (places.config, places.state, places.data, places.cache):
        with suppress(OSError):
            facts = folder.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
                folder.chmod(0o700)


def _runtime(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given and os.path.isabs(given):
        return Path(given) / APPLICATION
    by_number = Path(f"/run/user/{os.geteuid()}")
    if by_number.is_dir() and os.access(by_number, os.W_OK):
        return by_number / APPLICATION
    # Directly in the shared folder, so that make_private checks the one name that a stranger could have taken.
    return Path(tempfile.gettempdir()) / f"{APPLICATION}-{os.geteuid()}"
