"""The main job as a person does it: mount with one command, copy, list, edit, remove, look, unmount, come back."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from support import leftovers, trees
from support.home import CHECKOUT, Home, Mounted, program


def test_copy_list_and_remove_a_tree(bucket: Path, stage: Path) -> None:
    """cp -a, ls -l and rm -r work as on a local disk."""
    source = stage / "main-job-source"
    source.mkdir()
    trees.oddities(source / "odd")
    subprocess.run(["cp", "-a", source / "odd", bucket / "odd"], check=True)
    assert trees.look(bucket / "odd") == trees.look(source / "odd")

    def long_listing(folder: Path) -> str:
        command = ["ls", "-lA", "--time-style=full-iso", "--block-size=1", str(folder)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # The number of hard links of a directory and the size of its own table are the file system's affair.
        rows = [line.split(maxsplit=8) for line in listed.splitlines()[1:]]
        return "\n".join(
            " ".join([r[0], *r[2:4], "" if r[0].startswith("d") else r[4], *r[5:]]) for r in rows if len(r) == 9
        )

    assert long_listing(bucket / "odd") == long_listing(source / "odd")
    subprocess.run(["rm", "-r", bucket / "odd"], check=True)
    assert os.listdir(bucket) == []


def test_an_editor_saves(bucket: Path) -> None:
    """vi writes beside and renames or writes in place, as it sees fit; either way the text is there and the mode stays."""
    path = bucket / "notes.txt"
    path.write_text("first\n")
    path.chmod(0o640)
    inode_kept_by_editor = ["vi", "-u", "NONE", "-n", "-es", "-c", "set nofsync"]
    for number, options in enumerate(["set backupcopy=yes", "set backupcopy=no", "set backup writebackup"]):
        command = [*inode_kept_by_editor, "-c", options, "-c", f"normal Goline {number}", "-c", "wq", str(path)]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL, env=os.environ | {"TERM": "dumb"})
    assert path.read_text() == "first\nline 0\nline 1\nline 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert set(os.listdir(bucket)) <= {"notes.txt", "notes.txt~"}


def test_write_aside_and_rename(bucket: Path) -> None:
    """How most programs save: a temporary file, fsync, rename over the old one; a reader sees one or the other, whole."""
    path, aside = bucket / "config", bucket / ".config.tmp"
    path.write_text("0" * 5000)
    for number in range(1, 20):
        with aside.open("w") as file:
            file.write(str(number % 10) * 5000)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        assert path.read_text() == str(number % 10) * 5000
    assert os.listdir(bucket) == ["config"]


def test_folders_at_the_top_are_buckets(mounted: Mounted) -> None:
    """mkdir at the top makes a bucket, rmdir removes an empty one."""
    assert "home" in os.listdir(mounted.path)
    made = mounted.path / "made here"
    made.mkdir()
    (made / "f").write_text("x")
    mounted.sync()
    listed = mounted.home.cli("buck", "ls").stdout
    assert "made here" in listed
    with pytest.raises(OSError, match="not empty"):
        made.rmdir()
    (made / "f").unlink()
    made.rmdir()
    assert "made here" not in os.listdir(mounted.path)
    mounted.sync()
    assert "made here" not in mounted.home.cli("buck", "ls").stdout
    mounted.check_log()


def test_it_says_in_three_lines_what_it_did(mounted: Mounted) -> None:
    """The first mount tells the user what was made and where."""
    lines = mounted.said.strip().splitlines()
    assert len(lines) == 3, mounted.said
    assert str(mounted.path) in mounted.said
    assert "umount" in mounted.said


def test_status_in_words_and_in_json(mounted: Mounted) -> None:
    """status says how the mount is, for people and for programs."""
    (mounted.path / "home" / "for status").write_text("x")
    mounted.sync()
    assert str(mounted.path) in mounted.home.cli("status").stdout
    assert str(mounted.path) in mounted.home.cli("status", mounted.path).stdout
    assert isinstance(mounted.status(), dict | list)


def test_secrets_are_only_for_their_owner(mounted: Mounted) -> None:
    """Keys on disk are readable by their owner alone."""
    secrets = mounted.home.config / "credentials.toml"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600


def test_unmounted_and_mounted_again_all_is_there(home: Home) -> None:
    """What was written before an unmount is there after the next mount."""
    mount = home.mount()
    folder = mount.path / "home" / "d"
    folder.mkdir()
    (folder / "f").write_text("kept")
    inode = (folder / "f").stat().st_ino
    mount.umount()
    assert os.listdir(mount.path) == []
    again = home.mount()
    assert (again.path / "home/d/f").read_text() == "kept"
    assert (again.path / "home/d/f").stat().st_ino == inode
    again.umount()


def test_killed_and_mounted_again_nothing_closed_is_lost(home: Home) -> None:
    """kill -9 between the close and any push; the next mount clears the dead one by itself and has the bytes."""
    mount = home.mount()
    data = os.urandom(700_000)
    folder = mount.path / "home" / "d"
    folder.mkdir()
    (folder / "f").write_bytes(data)
    (folder / "g").symlink_to("f")
    os.rename(folder / "f", folder / "renamed")
    leftovers.end(home.pids())
    assert mount.is_mounted, "the test wants a dead mount in the way"
    again = home.mount(make=False)
    again.expect("had lost its process and is cleared")
    assert (again.path / "home/d/renamed").read_bytes() == data
    assert os.readlink(again.path / "home/d/g") == "f"
    again.sync()
    again.umount()


def test_one_bucket_or_a_prefix_of_it_as_the_root(home: Home) -> None:
    """One bucket, or a folder of it, can be the root of a mount."""
    mount = home.mount()
    (mount.path / "home/music/live").mkdir(parents=True)
    (mount.path / "home/music/live/f").write_text("x")
    mount.sync()
    mount.umount()
    one = home.mount("home", where=home.root / "one")
    assert os.listdir(one.path) == ["music"]
    (one.path / "top").write_text("y")
    one.umount()
    prefix = home.mount("home/music", where=home.root / "prefix")
    assert os.listdir(prefix.path) == ["live"]
    (prefix.path / "live/g").write_text("z")
    prefix.umount()
    back = home.mount()
    assert (back.path / "home/music/live/g").read_text() == "z"
    assert (back.path / "home/top").read_text() == "y"
    back.umount()


def test_make_mount_twice(home: Home) -> None:
    """What `make mount` runs, on a folder that does not exist yet; the second time it says so and is content."""
    where = home.root / "new/Buckets"
    script = CHECKOUT / ".ci/mount"
    # The script takes one program; a checkout that is not installed needs more than one word.
    wrapper = home.root / "bucketfs"
    wrapper.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in program()) + ' "$@"\n')
    wrapper.chmod(0o755)
    first = home.run([script, wrapper, where])
    assert str(where) in first.stdout
    (where / "home/f").write_text("x")
    second = home.run([script, wrapper, where])
    assert "mounted already" in second.stdout
    assert (where / "home/f").read_text() == "x"
    home.cli("umount", where)
    assert not any(mount.where == where for mount in leftovers.mounts())


def test_push_and_pull_of_a_folder_without_a_mount(home: Home) -> None:
    """A folder goes to a bucket and back without FUSE."""
    source = home.root / "source"
    source.mkdir()
    trees.oddities(source / "odd")
    (source / "pack").mkdir()
    for number in range(50):
        (source / f"pack/{number}").write_text(f"file {number}\n" * number)
    home.cli("buck", "create", "cold")
    home.cli("buck", "push", source, "cold")
    # Said and sent again only what is new.
    (source / "pack/7").write_text("changed")
    home.cli("buck", "push", source, "cold")
    assert "pack" in home.cli("buck", "ls", "cold").stdout
    assert home.cli("buck", "cat", "cold/pack/7").stdout == "changed"
    home.cli("buck", "pull", "cold", home.root / "target")
    assert trees.look(home.root / "target") == trees.look(source)
    home.cli("buck", "mv", "cold/pack/7", "cold/seven")
    home.cli("buck", "rm", "cold/pack/8")
    listed = home.cli("buck", "ls", "cold/pack").stdout.split()
    assert "9" in " ".join(listed)
    assert home.cli("buck", "cat", "cold/seven").stdout == "changed"
    assert shutil.which("fusermount3")


def test_root_of_a_pushed_tree_without_attributes(home: Home) -> None:
    """Without mode and mtime a tree has the CID that other implementations give it (the vectors say which)."""
    vectors = json.loads((CHECKOUT / "tests/vectors/unixfs.json").read_text())
    vector = next(entry for entry in vectors["directories"] if entry["name"].startswith("ten files f0..f9"))
    source = home.root / "ten"
    source.mkdir()
    for number in range(10):
        (source / f"f{number}").write_text(f"file {number}\n")
    home.cli("buck", "create", "vectors")
    home.cli("buck", "push", "--no-attributes", source, "vectors/ten")
    listed = json.loads(home.cli("buck", "ls", "--json", "vectors").stdout)
    assert [entry["cid"] for entry in listed if entry["name"] == "ten"] == [vector["root"]]
