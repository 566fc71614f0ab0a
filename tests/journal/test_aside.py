"""Drafts that a replay cannot use are copied to where a person may look at them, for good."""

from __future__ import annotations

import pytest
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.journal import set_aside
from bucketfs.types import DraftId

DRAFTS = {DraftId(7): "/journal/drafts/seven", DraftId(8): "/journal/drafts/eight", DraftId(9): "/journal/drafts/gone"}
COPIES = ["/journal/set-aside/draft-0000000000000007", "/journal/set-aside/draft-0000000000000008"]


def disk(stop_at: int = 0) -> FaultyDisk:
    made = FaultyDisk()
    for folder in ("/journal", "/journal/drafts"):
        made.make_durable_folder(folder)
    for draft, data in ((DraftId(7), b"s" * 2_500_000), (DraftId(8), b"")):
        made.replace_file(DRAFTS[draft], data)
    made.calls.clear()
    made.stop_at = stop_at
    return made


def test_copies_survive_a_power_loss_once_they_are_told() -> None:
    whole = disk()
    assert set_aside(whole, "/journal", DRAFTS) == COPIES
    assert set_aside(whole, "/journal", DRAFTS) == COPIES, "again after a restart"
    left = whole.after_power_loss()
    assert [left.read_file(copy) for copy in COPIES] == [b"s" * 2_500_000, b""]
    assert whole.open_files() == 0


def test_the_drafts_are_there_whenever_it_stops() -> None:
    calls = disk()
    set_aside(calls, "/journal", DRAFTS)
    for stop_at in range(1, len(calls.calls) + 1):
        stopped = disk(stop_at)
        with pytest.raises(Stopped):
            set_aside(stopped, "/journal", DRAFTS)
        left = stopped.after_power_loss()
        assert left.read_file(DRAFTS[DraftId(7)]) == b"s" * 2_500_000
