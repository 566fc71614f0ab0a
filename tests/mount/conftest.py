"""Homes and mounts for the tests of this folder: real processes, the real kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home import Home, Mounted, User, Watchdog

_numbers = itertools.count()


@pytest.fixture(scope="module")
def new_home(stage: Path) -> Iterator[Callable[..., Home]]:
    """Makes fresh homes; whatever a test does with them, nothing of them lives on after the module."""
    made: list[Home] = []

    def make(user: User | None = None) -> Home:
        home = Home(stage / f"h{next(_numbers)}", *([user] if user is not None else []))
        made.append(home)
        return home

    yield make
    for home in made:
        home.end()


@pytest.fixture
def home(new_home: Callable[..., Home], request: pytest.FixtureRequest) -> Iterator[Home]:
    """A fresh home for one test, with a watchdog that bites shortly before the test's own time is up."""
    fresh = new_home()
    with Watchdog(fresh, _patience_s(request)):
        yield fresh
    fresh.end()


@pytest.fixture(scope="module")
def mounted(new_home: Callable[..., Home]) -> Iterator[Mounted]:
    """All buckets of a fresh account, mounted once for all tests of a module."""
    mount = new_home().mount()
    yield mount
    mount.umount()


@pytest.fixture
def bucket(mounted: Mounted, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh folder in the bucket ``home`` of the module's mount; the daemon's log must stay clean."""
    folder = mounted.path / "home" / f"t{next(_numbers)}"
    with Watchdog(mounted.home, _patience_s(request)):
        folder.mkdir()
        yield folder
    mounted.check_log()


def _patience_s(request: pytest.FixtureRequest) -> float:
    marker = request.node.get_closest_marker("timeout")
    limit = float(marker.args[0]) if marker else float(request.config.getini("timeout"))
    return limit * 0.85
