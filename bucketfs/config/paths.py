"""Where files are: XDG folders, and the names of the files that belong to one mount or one Hub.

Sockets are in a folder that only their user can enter. Without ``$XDG_RUNTIME_DIR`` (cron, sudo, a bare container) the same
folder is found by the user's number, so ``bucketfs status`` finds every mount of a user from any shell of that user.
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
class Paths:
    """The folders of one user. They need not exist."""

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
        """The log of the daemon behind ``mountpoint``, unless it runs in the foreground."""
        return self.state / "log" / f"mount-{tag(mountpoint)}.log"

    def hub_socket(self, data: Path) -> Path:
        """The socket of the embedded Hub whose stores are in ``data`` (absolute)."""
        return self.runtime / f"hub-{tag(data)}.sock"


def tag(path: Path) -> str:
    """A short name for a path: 16 hex digits of a hash."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def find_paths(environ: Mapping[str, str]) -> Paths:
    """The folders of the user of this process. ``environ`` decides about the runtime folder only: platformdirs reads the
    environment of the process for the others."""
    folders = platformdirs.PlatformDirs(APPLICATION, appauthor=False)
    return Paths(
        config=Path(folders.user_config_dir),
        state=Path(folders.user_state_dir),
        data=Path(folders.user_data_dir),
        cache=Path(folders.user_cache_dir),
        runtime=_runtime(environ),
    )


OWNER_ONLY = 0o077
"""The umask of daemons: only their user can read what they make. Programs on a mount bring their own."""


def make_private(folder: Path) -> Path:
    """Make ``folder`` (and those above it) with mode 0700. Raises NotPermitted when it belongs to another user or is a symlink:
    in a shared /tmp anyone may have made it first."""
    make_private_folder(folder)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise NotPermitted(
            f"{folder} belongs to someone else (uid {facts.st_uid})", hint="set XDG_RUNTIME_DIR to a folder of your own"
        )
    if facts.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def close_to_others(paths: Paths) -> None:
    """Take our top folders from other users, whatever umask made them. Folders above them, and those behind a symlink, are left
    as the user has them."""
    for folder in (paths.config, paths.state, paths.data, paths.cache):
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
    # Directly in the shared folder, so that make_private checks the one name that another user could have taken.
    return Path(tempfile.gettempdir()) / f"{APPLICATION}-{os.geteuid()}"
