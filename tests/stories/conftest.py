"""Homes for stories: real processes and the real kernel, as in the tests of mount/."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home import Home, User, Watchdog

_numbers = itertools.count()


@pytest.fixture(scope="module")
def new_home(stage: Path) -> Iterator[Callable[..., Home]]:
    """Makes fresh homes; whatever a test does with them, nothing of them lives on after the module."""
    made: list[Home] = []

    def make(user: User | None = None) -> Home:
        home = Home(stage / f"s{next(_numbers)}", *([user] if user is not None else []))
        made.append(home)
        return home

    yield make
    for home in made:
        home.end()


@pytest.fixture
def home(new_home: Callable[..., Home], request: pytest.FixtureRequest) -> Iterator[Home]:
    """A fresh home for one test, with a watchdog that bites shortly before the test's own time is up."""
    marker = request.node.get_closest_marker("timeout")
    limit_s = float(marker.args[0]) if marker else float(request.config.getini("timeout"))
    fresh = new_home()
    with Watchdog(fresh, limit_s * 0.85):
        yield fresh
    fresh.end()
