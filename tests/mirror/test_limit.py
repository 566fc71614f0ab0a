"""A folder that does not fit the limit of the Hub: its largest files are left out and told, and the rest is mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from support.machine import Machine, hub_names
from support.memory_remote import MemoryRemote

from bucketfs.dag import drive, reachable
from bucketfs.errors import OverQuota
from bucketfs.types import Cid, UploadId

KIB = 1 << 10


@dataclass
class LimitedRemote(MemoryRemote):
    """Takes roots of so many bytes."""

    limit_bytes: int = 0

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        found = drive(reachable(new), self._get)
        if sum(len(self.store[cid]) for cid in found) > self.limit_bytes:
            raise OverQuota("quota exhausted")
        await super().swap(expected, new, upload)


async def test_what_does_not_fit_is_left_out_alone(tmp_path: Path) -> None:
    """Over the quota, all but the largest files are still saved, and the user hears which are not."""
    remote = LimitedRemote(limit_bytes=300 * KIB)
    one, other = Machine(tmp_path, "one", remote), Machine(tmp_path, "other", remote)
    one.write("d/large", bytes(range(256)) * 2000)
    one.write("d/small", "small")
    one.write("old", "old")
    done = await one.round()
    assert [(item.path, item.reason) for item in done.skipped] == [("d/large", "quota exhausted")]
    assert sorted(set(hub_names(remote))) == ["d", "d/small", "old"]
    # An old file that grew too much stays at the Hub as it was. Others come and go.
    one.write("old", bytes(range(255)) * 2000)
    other.write("theirs", "theirs")
    await other.round()
    done = await one.round()
    assert sorted(item.path for item in done.skipped) == ["d/large", "old"]
    assert (one.top / "theirs").read_text() == "theirs"
    await other.round()
    assert (other.top / "old").read_text() == "old"
    # There is room now.
    remote.limit_bytes *= 10
    done = await one.round()
    assert not done.skipped and {"d/large", "old"} <= set(hub_names(remote))


async def test_a_limit_that_no_file_is_to_blame_for(tmp_path: Path) -> None:
    """The user hears of the limit; the mirror does not try for ever."""
    one = Machine(tmp_path, "one", LimitedRemote(limit_bytes=1))
    (one.top / "d").mkdir()
    with pytest.raises(OverQuota):
        await one.round()
