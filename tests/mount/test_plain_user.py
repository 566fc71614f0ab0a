"""The same for a user without rights, through fusermount3: mount, write, sync, unmount; and what such a user may not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import leftovers
from support.home import Home, Watchdog, plain_user

DEVICE = Path("/dev/fuse")


@pytest.fixture(scope="module", autouse=True)
def device_for_everyone() -> None:
    """Open /dev/fuse to all users, as udev does on every Debian and some containers do not. It stays so: another process of the
    same run may be in the middle of a mount."""
    if os.geteuid() == 0:
        DEVICE.chmod(0o666)


@pytest.fixture
def home(new_home: Callable[..., Home]) -> Iterator[Home]:
    fresh = new_home(plain_user())
    with Watchdog(fresh, 100):
        yield fresh
    fresh.end()


def test_a_plain_user_does_the_main_job(home: Home) -> None:
    """Mounting needs no root."""
    mount = home.mount()
    inside = mount.path / "home"
    home.run(["sh", "-c", f"cd '{inside}' && mkdir d && echo hello > d/f && ln -s f d/l && chmod 640 d/f && mv d/f d/g"])
    home.run(["rsync", "-a", f"{leftovers.__file__}", f"{inside}/d/"])
    listed = home.run(["ls", "-ln", inside / "d"]).stdout
    assert "-rw-r-----" in listed
    uid = home.user.uid if home.user.uid is not None else os.geteuid()
    assert {line.split()[2] for line in listed.splitlines()[1:]} == {str(uid)}, "files belong to who mounted"
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    again = home.mount()
    assert home.run(["cat", again.path / "home/d/g"]).stdout == "hello\n"
    assert home.run(["readlink", again.path / "home/d/l"]).stdout == "f\n"
    home.run(["rm", "-r", again.path / "home/d"])
    assert home.run(["ls", "-A", again.path / "home"]).stdout == ""
    again.umount()


def test_rights_of_files_are_the_kernels_affair(home: Home) -> None:
    """chmod protects a file in a mount as anywhere."""
    mount = home.mount()
    inside = mount.path / "home"
    home.run(["sh", "-c", f"cd '{inside}' && echo secret > f && chmod 000 f"])
    denied = home.run(["cat", inside / "f"], check=False)
    assert denied.returncode != 0
    assert "Permission denied" in denied.stderr
    given_away = home.run(["chown", "0:0", inside / "f"], check=False)
    assert "Operation not permitted" in given_away.stderr
    home.run(["chmod", "600", inside / "f"])
    assert home.run(["cat", inside / "f"]).stdout == "secret\n"
    mount.umount()


if os.geteuid() == 0:

    def test_nobody_else_may_look(home: Home) -> None:
        """Without allow_other a mount is its owner's alone; not even root sees into it."""
        mount = home.mount()
        with pytest.raises(PermissionError):
            os.listdir(mount.path)
        mount.umount()

    def test_a_mount_point_of_another_user(home: Home, stage: Path) -> None:
        """A plain user cannot mount on another user's folder."""
        place = stage / "roots own"
        place.mkdir(mode=0o755)
        said = home.complaint("mount", place)
        assert str(place) in said
        assert not leftovers.mounts_below(place)

    def test_a_device_that_only_root_may_open(home: Home) -> None:
        """In a mount namespace of its own, for the device is everybody's."""
        place = home.root / "place"
        place.mkdir()
        os.chown(place, home.user.uid or 0, home.user.gid or 0)
        closed = "mknod fuse c 10 229 && chmod 600 fuse && mount --bind fuse /dev/fuse && "
        become = f'exec setpriv --reuid {home.user.uid} --regid {home.user.gid} --clear-groups "$@"'
        home.wrapper = ("unshare", "--mount", "sh", "-c", closed + become, "sh")
        assert "/dev/fuse" in home.complaint("mount", place)
