"""A second push or pull, under other circumstances: other options, a folder that takes no names, a current folder that is gone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.home import Home, plain_user

from bucketfs.cli import main

Buck = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("text")
    return path


def test_the_current_folder_is_gone(buck: Buck, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull in a folder that was removed would write somewhere else, or end in a traceback."""
    buck("push", file, "home")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for command in (("pull", "home", "."), ("pull", "home", "new"), ("watch", "--once", ".", "home")):
        assert "the current folder was removed: 'cd'" in buck(*command, code=1)


def test_an_empty_path_is_not_the_current_folder(
    buck: Buck, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pull --delete home "$UNSET"` would delete everything in the current folder."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work/mine").touch()
    monkeypatch.chdir(tmp_path / "work")
    buck("push", file, "home")
    for command in (("pull", "--delete", "home", ""), ("watch", "--once", "", "home")):
        assert "the path is empty" in buck(*command, code=2)
    assert os.listdir() == ["mine"]


def test_attributes_are_left_out_also_where_there_were_some(buck: Buck, tmp_path: Path) -> None:
    """Who pushes again without attributes would still publish modes and times of the first push."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "large").write_bytes(os.urandom(600_000))
    (tree / "small").touch()
    (tree / "sub").chmod(0o700)
    (tree / "large").chmod(0o600)

    def rows(bucket: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(buck("ls", "-l", "--json", bucket))
        return [{name: row[name] for name in row if name != "updated_at_ns"} for row in found]

    buck("push", tree, "home")
    assert any(row["mtime_ns"] for row in rows("home"))
    buck("push", "--no-attributes", tree, "home")
    buck("create", "other")
    buck("push", "--no-attributes", tree, "other")
    assert rows("home") == rows("other")


def test_a_folder_that_a_file_goes_into_keeps_its_mode(buck: Buck, file: Path, tmp_path: Path) -> None:
    """Pulling one file would change who may write into the folder around it."""
    buck("push", file, "home")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").write_text("text")
    os.utime(tmp_path / "here/file", ns=(0, file.stat().st_mtime_ns))
    (tmp_path / "here").chmod(0o555)
    buck("pull", "home/file", f"{tmp_path}/here/")
    assert (tmp_path / "here").stat().st_mode & 0o777 == 0o555


def test_delete_takes_read_only_folders_too(new_home: Callable[..., Home]) -> None:
    """`pull --delete` would leave read-only folders behind, or fail at them."""
    home = new_home(plain_user())
    source = home.root / "source"
    home.run(["mkdir", "-p", source / "closed/below", home.root / "empty"])
    home.run(["touch", source / "closed/below/file"])
    home.run(["chmod", "0555", source / "closed/below", source / "closed"])
    home.cli("buck", "create", "b")
    home.cli("buck", "push", source, "b")
    home.cli("buck", "pull", "b", home.root / "back")
    home.cli("buck", "push", "--delete", home.root / "empty", "b")
    home.cli("buck", "pull", "--delete", "b", home.root / "back")
    assert not os.listdir(home.root / "back")
    home.run(["chmod", "-R", "u+w", source])


@pytest.mark.parametrize("command", ["status", "sync", "umount", "conflicts", "events"])
def test_an_empty_path_names_no_mount(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`umount "$UNSET"` would end a mount that the user did not name."""
    assert main([command, ""]) == 2
    assert "the path is empty" in capsys.readouterr().err
