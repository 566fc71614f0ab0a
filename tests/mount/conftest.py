"""Homes and mounts for the tests of this folder: real processes, the real kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home import Home, Mounted, Watchdog
from support.homes import home, new_home, patience_s

__all__ = ["bucket", "home", "mounted", "new_home"]

_numbers = itertools.count()


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
    with Watchdog(mounted.home, patience_s(request)):
        folder.mkdir()
        yield folder
    mounted.check_log()
