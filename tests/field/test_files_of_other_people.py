"""Somebody fetches what other people put into a bucket: it gets no rights here that its user did not give it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.home import Home, plain_user


@pytest.fixture
def plain_home(new_home: Callable[..., Home]) -> Home:
    return new_home(plain_user())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_program_with_special_modes_arrives_without_them(buck: Callable[..., str], tmp_path: Path) -> None:
    """A stranger's bucket would place a setuid program on this machine."""
    theirs, pulled, watched = (tmp_path / name for name in ("theirs", "pulled", "watched"))
    (theirs / "dir").mkdir(parents=True)
    watched.mkdir()
    (theirs / "program").write_text("#!/bin/sh\n")
    (theirs / "program").chmod(0o6755)
    (theirs / "dir").chmod(0o2775)
    buck("push", theirs, "home")
    buck("pull", "home", pulled)
    buck("watch", "--once", watched, "home")
    for top in (pulled, watched):
        assert (mode_of(top / "program"), mode_of(top / "dir")) == (0o755, 0o775), top
    # Again, and with the bucket unchanged: what was not given here is not taken from anybody.
    assert "nothing to do" in buck("watch", "--once", watched, "home")
    if os.geteuid() == 0:
        special = tmp_path / "special"
        buck("pull", "--special-modes", "--owner", "home", special)
        assert (mode_of(special / "program"), mode_of(special / "dir")) == (0o6755, 0o2775)


def test_only_root_may_ask_for_more(plain_home: Home) -> None:
    """Said before a Hub is asked. (That both commands have both options is a matter of one function.)"""
    top = plain_home.root / "top"
    assert "for root only" in plain_home.complaint("buck", "pull", "--owner", "home", top)
    assert not top.exists()
    assert "for root only" in plain_home.complaint("buck", "watch", "--special-modes", plain_home.root, "home")
