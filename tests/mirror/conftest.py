"""Two machines with a folder each, mirrored with one bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.machine import Machine
from support.memory_remote import MemoryRemote


@pytest.fixture
def remote() -> MemoryRemote:
    return MemoryRemote()


@pytest.fixture
def one(tmp_path: Path, remote: MemoryRemote) -> Machine:
    return Machine(tmp_path, "one", remote)


@pytest.fixture
def two(tmp_path: Path, remote: MemoryRemote) -> Machine:
    return Machine(tmp_path, "two", remote)
