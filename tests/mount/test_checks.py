"""What is checked before a mount, and reading the kernel's table of mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bucketfs.errors import Busy, NotADirectory, NotEmpty, NotFound, NotPermitted, Refused
from bucketfs.mount import Mounted, MountSettings, checks, prepare
from bucketfs.mount.settings import connection_folder
from bucketfs.mount.table import parse_mountinfo

SETTINGS = MountSettings()

MOUNTINFO = rb"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 22 0:52 / /home/me/my\040files rw,nosuid,nodev,relatime shared:1 - fuse.bucketfs bucketfs rw,user_id=1000
40 22 0:53 / /home/me/other rw - fuse.sshfs host:/odd\011name rw
"""


def test_mountinfo_is_read_with_its_escapes() -> None:
    """A mount on a path with spaces is found again."""
    root, ours, other = parse_mountinfo(MOUNTINFO)
    assert (root.mountpoint, root.type, root.ours) == (Path("/"), "ext4", False)
    assert (ours.mountpoint, ours.device, ours.ours) == (Path("/home/me/my files"), "0:52", True)
    assert (other.source, other.ours) == ("host:/odd\tname", False)
    assert connection_folder(ours).name == "52"


def test_an_empty_folder_of_ours_is_fine(tmp_path: Path) -> None:
    """An empty folder can be mounted on, by a symlink too."""
    assert prepare(tmp_path, SETTINGS) == tmp_path
    link = tmp_path.parent / "link"
    link.symlink_to(tmp_path)
    assert prepare(link, SETTINGS) == tmp_path


@pytest.mark.parametrize("kind", ["missing", "file", "below a file", "full"])
def test_each_refusal_is_one_line_with_a_hint(tmp_path: Path, kind: str) -> None:
    """Each reason why a folder cannot be mounted on is one line that says what to do."""
    place, expected = {
        "missing": (tmp_path / "none", NotFound),
        "file": (tmp_path / "full" / "file", NotADirectory),
        "below a file": (tmp_path / "full" / "file" / "x", NotADirectory),
        "full": (tmp_path / "full", NotEmpty),
    }[kind]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(Refused) as caught:
        prepare(place, SETTINGS)
    assert type(caught.value) is expected
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert caught.value.hint and "\n" not in caught.value.hint


def test_another_fuse_mount_is_not_ours_to_clear(tmp_path: Path) -> None:
    """A mount of another program is left alone."""
    other = Mounted(tmp_path, "fuse.sshfs", "host:/", "0:52")
    with pytest.raises(Busy, match=r"fuse\.sshfs"):
        checks.clear_dead(tmp_path, lambda place: other)


def test_a_folder_of_another_user_is_refused_to_a_plain_user(stage: Path) -> None:
    """A plain user cannot hide the folder of another user under a mount."""
    program = (
        "import sys; from pathlib import Path; from bucketfs.mount.checks import check_place; check_place(Path(sys.argv[1]))"
    )
    folder = stage / "theirs"
    folder.mkdir()
    folder.chmod(0o777)
    user = 65534
    if os.geteuid() != 0:
        folder, user = Path("/"), os.geteuid()
    done = subprocess.run([sys.executable, "-c", program, str(folder)], user=user, capture_output=True, text=True)
    assert f"{NotPermitted.__name__}: the mount point {folder} belongs to another user" in done.stderr
