"""How many files a developer has to read to follow a request: what docs/architecture.md says of it under "Walks"."""

from __future__ import annotations

from pathlib import Path

from bench.walk import walk_of_a_root, walks_of_writes

WRITE_STOPS_MAX = 8
FIRST_WRITE_STOPS_MAX = 11
ROOT_STOPS_MAX = 20


async def test_a_write_goes_through_few_files(tmp_path: Path) -> None:
    """From the kernel's handler to the journal; the first write to a file of the base also pins that and starts the push's
    clock."""
    walks = await walks_of_writes(tmp_path)
    assert len(walks["over"].stops) <= WRITE_STOPS_MAX, walks["over"]
    assert len(walks["append"].stops) <= WRITE_STOPS_MAX, walks["append"]
    assert len(walks["first"].stops) <= FIRST_WRITE_STOPS_MAX, walks["first"]
    assert "journal" in walks["over"].stops
    assert walks["over"].stops[0] == "mount/operations.py"


async def test_a_new_root_goes_through_few_files(tmp_path: Path) -> None:
    """From the look at the Hub to the last announcement to the kernel."""
    walk = await walk_of_a_root(tmp_path)
    assert len(walk.stops) <= ROOT_STOPS_MAX, walk
    assert walk.stops[-1] == "mount/invalidate.py"
