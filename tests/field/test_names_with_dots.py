"""Folders at the top keep the names they are made with, or are refused: each is a bucket, and any name may begin with a dot."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from support.home import Home

NAMES = [".x1", "..x", "...", "x.", ".Trash-1000", ".config", "n" * 255, "ü" * 127, "two words", "a\tb"]


def buckets(home: Home) -> list[str]:
    return sorted(info["name"] for info in json.loads(home.cli("buck", "ls", "--json").stdout))


def test_a_folder_at_the_top_has_the_name_it_was_made_with(home: Home) -> None:
    """`mkdir .config` would make a folder of another name, and the copy into it would fail."""
    mounted = home.mount()
    made = []
    for name in NAMES:
        try:
            (mounted.path / name).mkdir()
        except OSError as error:
            assert error.errno == errno.EINVAL, f"{name!r}: {error}"
        else:
            made.append(name)
        with pytest.raises(FileNotFoundError if name not in made else FileExistsError):
            (mounted.path / name).stat() if name not in made else (mounted.path / name).mkdir()
    assert {".x1", "..x", "...", "x.", ".Trash-1000", ".config"} <= set(made)
    source = home.root / "source"
    source.mkdir()
    (source / "f").write_bytes(b"1")
    shutil.copytree(source, mounted.path / ".config", dirs_exist_ok=True)
    mounted.sync()
    assert sorted(os.listdir(mounted.path)) == buckets(home) == sorted([*made, "home"])
    mounted.umount()
    mounted = home.mount()
    assert sorted(os.listdir(mounted.path)) == sorted([*made, "home"])
    assert (mounted.path / ".config/f").read_bytes() == b"1"
    mounted.umount()


def test_a_file_manager_moves_to_the_trash_of_a_bucket(home: Home) -> None:
    """ "Move to trash" would fail in a mounted bucket, or delete at once."""
    home.mount().umount()  # which makes the bucket
    mounted = home.mount("home")
    (mounted.path / "f").write_bytes(b"1")
    home.run(["gio", "trash", mounted.path / "f"])
    assert not (mounted.path / "f").exists()
    assert (mounted.path / f".Trash-{os.geteuid()}/files/f").read_bytes() == b"1"
    mounted.umount()


def test_a_file_manager_hears_that_all_buckets_have_no_common_trash(home: Home) -> None:
    """Its answer to that is to offer to delete at once, as for any file system without a trash."""
    mounted = home.mount()
    (mounted.path / "home/f").write_bytes(b"1")
    done = home.run(["gio", "trash", mounted.path / "home/f"], check=False)
    assert "across filesystem boundaries" in done.stderr
    assert (mounted.path / "home/f").read_bytes() == b"1"
    mounted.umount()


def test_a_listing_begins_with_the_folder_and_the_one_above(home: Home) -> None:
    """Programs that find their way by "." and ".." and their inode numbers would get lost."""
    mounted = home.mount()
    folder = mounted.path / "home/d/e"
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"1")
    for path, above in ((mounted.path, None), (mounted.path / "home", mounted.path), (folder, folder.parent)):
        shown = home.run(["ls", "-ai", path]).stdout.split()
        numbers = dict(zip(shown[1::2], map(int, shown[::2]), strict=True))
        assert list(numbers)[:2] == [".", ".."] and len(numbers) > 2
        assert numbers["."] == path.stat().st_ino
        assert above is None or numbers[".."] == above.stat().st_ino
    mounted.umount()
