"""Bad input and bad days: one clear line or the right errno, and nothing lost."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import leftovers
from support.home import CHECKOUT, Home, Mounted, plain_user
from support.kernel import refused
from support.served import ServedHub, free_address

ROOT = os.geteuid() == 0


# Names


def test_names_that_cannot_be_carried(bucket: Path) -> None:
    """A name that no bucket can hold is refused with the errno that says why, and nothing is made."""
    raw = os.fsencode(bucket)
    makers: tuple[Callable[[bytes], object], ...] = (
        lambda name: os.mkdir(raw + b"/" + name),
        lambda name: os.close(os.open(raw + b"/" + name, os.O_CREAT | os.O_WRONLY)),
        lambda name: os.symlink(b"x", raw + b"/" + name),
    )
    for act in makers:
        with refused(errno.EILSEQ):
            act(b"caf\xe9")
        with refused(errno.ENAMETOOLONG):
            act(b"n" * 256)
    (bucket / "ok").touch()
    with refused(errno.EILSEQ):
        os.rename(raw + b"/ok", raw + b"/\xff")
    with refused(errno.ENOENT):
        os.stat(raw + b"/caf\xe9")
    assert os.listdir(bucket) == ["ok"]


def test_the_seed_is_hidden_and_its_name_refused(mounted: Mounted) -> None:
    """The Hub's own file cannot be seen, replaced or renamed over."""
    home = mounted.path / "home"
    assert ".textileseed" not in os.listdir(home)
    with refused(errno.ENOENT):
        (home / ".textileseed").stat()
    with refused(errno.EPERM):
        (home / ".textileseed").write_text("x")
    (home / "for the seed").touch()
    with refused(errno.EPERM):
        os.rename(home / "for the seed", home / ".textileseed")
    mounted.check_log()


def test_what_a_bucket_has_no_form_for(bucket: Path) -> None:
    """Hard links, pipes and devices are refused, not lost at the next push."""
    (bucket / "f").touch()
    acts: tuple[Callable[[], object], ...] = (
        lambda: os.link(bucket / "f", bucket / "g"),
        lambda: os.mkfifo(bucket / "pipe"),
    )
    for act in acts:
        with pytest.raises(OSError, check=lambda error: error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)):
            act()
    assert os.listdir(bucket) == ["f"]


def test_renames_do_not_cross_buckets(mounted: Mounted) -> None:
    """mv between buckets copies, as between file systems."""
    (mounted.path / "elsewhere").mkdir()
    (mounted.path / "home/crossing").write_text("x")
    with refused(errno.EXDEV):
        os.rename(mounted.path / "home/crossing", mounted.path / "elsewhere/crossing")
    # mv copies in that case, and is content.
    subprocess.run(["mv", mounted.path / "home/crossing", mounted.path / "elsewhere/"], check=True)
    assert (mounted.path / "elsewhere/crossing").read_text() == "x"
    mounted.check_log()


# Mount points


def test_mount_point_missing(home: Home) -> None:
    """A mount point that does not exist is one line with what to do."""
    said = home.complaint("mount", home.root / "nowhere")
    assert str(home.root / "nowhere") in said


def test_mount_point_is_a_file(home: Home) -> None:
    """A mount point that is a file is one line with what to do."""
    (home.root / "file").touch()
    assert str(home.root / "file") in home.complaint("mount", home.root / "file")


def test_mount_point_not_empty(home: Home) -> None:
    """Files in the mount point are not hidden under a mount."""
    place = home.root / "full"
    place.mkdir()
    (place / "precious").write_text("x")
    assert "empty" in home.complaint("mount", place)
    assert (place / "precious").read_text() == "x"


def test_mount_point_already_mounted(home: Home) -> None:
    """A second mount on one folder is refused."""
    mount = home.mount()
    assert "already" in home.complaint("mount", mount.path)
    (mount.path / "home/f").write_text("unharmed")
    mount.umount()


def test_umount_of_what_is_no_mount(home: Home) -> None:
    """umount of another folder says that nothing is mounted there."""
    (home.root / "folder").mkdir()
    assert str(home.root / "folder") in home.complaint("umount", home.root / "folder")
    home.complaint("status", home.root / "folder")
    home.complaint("sync", home.root / "folder")


def test_unknown_bucket(home: Home) -> None:
    """A mistyped bucket is refused before anything is mounted."""
    (home.root / "place").mkdir()
    assert "nosuch" in home.complaint("mount", "nosuch", home.root / "place")
    assert "nosuch" in home.complaint("buck", "ls", "nosuch")
    assert "nosuch" in home.complaint("mount", "home/nosuch", home.root / "place")
    assert os.listdir(home.root / "place") == []


# Hubs


def test_no_hub_at_that_address(home: Home) -> None:
    """A wrong address is one line, not a hanging mount."""
    address = free_address()
    home.extra.update({"BUCKETFS_HUB": address, "BUCKETFS_API_KEY": "b" + "a" * 26, "BUCKETFS_API_SECRET": "b" + "a" * 39})
    assert address in home.complaint("buck", "ls")
    (home.root / "place").mkdir()
    assert address in home.complaint("mount", home.root / "place")
    assert not leftovers.mounts_below(home.root)


@pytest.fixture
def hub(home: Home) -> Iterator[ServedHub]:
    with ServedHub(home, home.root / "hub") as served:
        yield served


def test_wrong_key_and_wrong_secret(home: Home, hub: ServedHub) -> None:
    """Wrong credentials are refused in words, without the secret in them."""
    account = hub.account("bob")
    (home.root / "place").mkdir()
    for variable, value in (("BUCKETFS_API_KEY", "b" + "a" * 26), ("BUCKETFS_API_SECRET", "b" + "a" * 39)):
        home.extra.update(account.variables())
        home.extra[variable] = value
        for said in (home.complaint("buck", "ls"), home.complaint("mount", home.root / "place")):
            assert "key" in said
            assert account.secret not in said
    home.extra.update(account.variables())
    home.cli("buck", "ls")


def test_the_hub_goes_away_and_comes_back(home: Home, hub: ServedHub) -> None:
    """Writes and cached reads go on; nothing is lost; status says why; the push follows by itself."""
    home.extra.update(hub.account("carol").variables())
    mount = home.mount()
    mount.expect("cannot be reached|is not there|does not answer")
    (mount.path / "b").mkdir()
    (mount.path / "b/before").write_text("before")
    mount.sync()
    hub.kill()
    (mount.path / "b/during").write_text("during")
    assert (mount.path / "b/before").read_text() == "before"
    assert sorted(os.listdir(mount.path / "b")) == ["before", "during"]
    assert hub.address in home.cli("status", mount.path).stdout
    hub.start()
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    again = home.mount()
    assert (again.path / "b/during").read_text() == "during"
    again.umount()


def test_a_mount_comes_up_while_the_hub_is_away(home: Home, hub: ServedHub) -> None:
    """From the last known root and the journal; what was written then is pushed when the Hub is back."""
    home.extra.update(hub.account("dave").variables())
    mount = home.mount()
    (mount.path / "b").mkdir()
    (mount.path / "b/before").write_text("before")
    mount.sync()
    mount.umount()
    hub.kill()
    again = home.mount()
    again.expect(
        "cannot be reached|is away|does not answer|not connect|wait here|Unavailable|UNAVAILABLE|could not be pushed"
    )
    assert (again.path / "b/before").read_text() == "before"
    (again.path / "b/during").write_text("during")
    hub.start()
    again.sync()
    assert (again.path / "b/during").read_text() == "during"
    again.umount()
    home.forget("cache", "state")
    last = home.mount()
    assert (last.path / "b/during").read_text() == "during"
    last.umount()


# Decay


def blocks_with(folder: Path, needle: bytes) -> list[tuple[Path, int]]:
    """Where below ``folder`` these bytes are stored, whatever the layout of the store is."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            position = path.read_bytes().find(needle)
            if position >= 0:
                found.append((path, position))
    return found


def test_a_corrupt_block_in_the_hubs_store_is_never_shown(home: Home) -> None:
    """A bad sector at the Hub is an I/O error, never wrong bytes."""
    mount = home.mount()
    content = random.Random(11).randbytes(700_000)
    (mount.path / "home/bad").write_bytes(content)
    (mount.path / "home/good").write_bytes(b"good" * 1000)
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    places = blocks_with(home.root / "data", content[300_000:300_064])
    assert places, "the Hub keeps a file's bytes as they are"
    for path, position in places:
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes(byte ^ 0xFF for byte in content[300_000:300_001]))
    mount = home.mount()
    mount.expect("(?i)corrupt")
    assert (mount.path / "home/good").read_bytes() == b"good" * 1000
    with (mount.path / "home/bad").open("rb") as file:
        assert file.read(1000) == content[:1000]
        with refused(errno.EIO):
            os.pread(file.fileno(), 100, 300_000)
    assert sorted(os.listdir(mount.path / "home")) == ["bad", "good"]
    # It can be mended by writing it again.
    (mount.path / "home/bad").write_bytes(content)
    mount.sync()
    mount.umount()
    home.forget("cache", "state")
    mount = home.mount()
    assert (mount.path / "home/bad").read_bytes() == content
    mount.umount()


if ROOT:
    # What follows takes devices and disks away, in mount namespaces and tmpfs of its own, which only root can make.

    WITHOUT_DEVICE = (
        "mkdir -p dev && cd dev && "
        "for one in null zero full random urandom; do touch $one && mount --bind /dev/$one $one; done && "
        "mount --rbind . /dev && cd / && "
    )
    WITHOUT_HELPER = (
        "mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse && "  # as udev has it; not so in some containers
        "mount --bind /dev/null /usr/bin/fusermount3 && "
    )

    def test_no_fuse_device(home: Home) -> None:
        """A machine without FUSE gets a hint what to load."""
        home.wrapper = ("unshare", "--mount", "sh", "-c", f'{WITHOUT_DEVICE}exec "$@"', "sh")
        (home.root / "place").mkdir()
        assert "/dev/fuse" in home.complaint("mount", home.root / "place")

    def test_no_fusermount3(new_home: Callable[..., Home]) -> None:
        """A machine without fusermount3 gets a hint what to install."""
        user = plain_user()
        home = new_home(user)
        (home.root / "place").mkdir()
        os.chown(home.root / "place", user.uid or 0, user.gid or 0)
        become = f'exec setpriv --reuid {user.uid} --regid {user.gid} --clear-groups "$@"'
        home.wrapper = ("unshare", "--mount", "sh", "-c", WITHOUT_HELPER + become, "sh")
        said = home.complaint("mount", home.root / "place")
        assert "fusermount3" in said
        assert "fuse3" in said, "says which package to install"

    @pytest.mark.timeout(300)
    def test_full_disk_under_the_hub(home: Home) -> None:
        """The push says so and is tried again; the mount goes on; with room again everything arrives."""
        tmpfs = [b"tmpfs", os.fsencode(home.root / "data"), b"tmpfs"]
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mount(*tmpfs, 0, b"size=96m") == 0, os.strerror(ctypes.get_errno())
        mount = home.mount()
        mount.expect("(?i)full|space|ENOSPC")
        (mount.path / "home/early").write_bytes(b"early" * 100)
        mount.sync()
        data = random.Random(12).randbytes(120_000_000)
        (mount.path / "home/large").write_bytes(data)
        said = home.complaint("sync", "--timeout", "20s", mount.path, timeout_s=100)
        assert "full" in said or "space" in said, said
        assert (mount.path / "home/large").read_bytes() == data
        (mount.path / "home/late").write_text("late")
        assert libc.mount(*tmpfs, 32, b"size=512m") == 0, "MS_REMOUNT"
        mount.sync()
        mount.umount()
        home.forget("cache", "state")
        again = home.mount()
        assert (again.path / "home/large").read_bytes() == data
        assert (again.path / "home/late").read_text() == "late"
        assert (again.path / "home/early").read_bytes() == b"early" * 100
        again.umount()


def test_the_scripts_find_nothing_missing_here() -> None:
    """`make setup` and `make test` must not reach for the network when everything is installed."""
    for stage in ("run", "test"):
        done = subprocess.run(
            [CHECKOUT / ".ci/packages", stage, "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
