"""Folders: private ones, and sockets that every shell of a user finds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bucketfs.config import find_paths, make_private
from bucketfs.errors import NotPermitted


def test_private_folders(tmp_path: Path) -> None:
    """A folder in a shared /tmp that another user made first must not be trusted with secrets."""
    folder = tmp_path / "a/b"
    assert stat.S_IMODE(make_private(folder).stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(make_private(folder).stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(NotPermitted):
        make_private(link)
    theirs = Path("/usr")
    if os.geteuid() == 0:
        theirs = folder
        os.chown(theirs, 12345, -1)
    with pytest.raises(NotPermitted, match="belongs to someone else"):
        make_private(theirs)


def test_the_runtime_folder_is_found_without_a_variable(tmp_path: Path) -> None:
    """A cron job must find the mounts of a login shell. A socket's path has at most 107 bytes."""
    assert find_paths({"XDG_RUNTIME_DIR": str(tmp_path)}).runtime == tmp_path / "bucketfs"
    without = find_paths({}).runtime
    assert without.is_absolute() and str(os.geteuid()) in str(without)
    assert len(os.fsencode(find_paths({}).control_socket(tmp_path))) < 108
