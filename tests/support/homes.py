"""The fixtures for homes of the folders that serve real mounts; a conftest takes them in by importing them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home import MYSELF, Home, User, Watchdog

_numbers = itertools.count()


@pytest.fixture(scope="module")
def new_home(stage: Path) -> Iterator[Callable[..., Home]]:
    """Makes fresh homes; whatever a test does with them, nothing of them lives on after the module."""
    made: list[Home] = []

    def make(user: User | None = None) -> Home:
        home = Home(stage / f"h{next(_numbers)}", MYSELF if user is None else user)
        made.append(home)
        return home

    yield make
    for home in made:
        home.end()


@pytest.fixture
def home(new_home: Callable[..., Home], request: pytest.FixtureRequest) -> Iterator[Home]:
    """A fresh home for one test, with a watchdog that bites shortly before the test's own time is up."""
    fresh = new_home()
    with Watchdog(fresh, patience_s(request)):
        yield fresh
    fresh.end()


def patience_s(request: pytest.FixtureRequest) -> float:
    """How long a test may hang on a mount."""
    marker = request.node.get_closest_marker("timeout")
    limit_s = float(marker.args[0]) if marker else float(request.config.getini("timeout"))
    return limit_s * 0.85
