"""kill -9 of the mount at random moments: what was closed or fsynced is there afterwards, and in the end at the Hub.

The writer says what was acknowledged to it (see `support.acknowledged`). While it writes, pushes are asked for at random moments
too, so that a kill also meets freezing, sending, the swap of the root and the change of journal segments.
"""

from __future__ import annotations

import random
import threading
import time

import pytest
from support import acknowledged
from support.acknowledged import Model
from support.foreground import Foreground
from support.home import Home
from support.served import ServedHub
from support.writing import Writing, assert_as_written, at_the_hub

from bucketfs.errors import BucketfsError

BUCKET = "crash"


def sync_until_killed(daemon: Foreground, pauses_s: list[float]) -> threading.Thread:
    """Ask for pushes, each after a pause, until there is nobody to ask."""

    def work() -> None:
        for pause_s in pauses_s:
            time.sleep(pause_s)
            try:
                daemon.ask("sync")
            except BucketfsError:
                return

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def one_round(home: Home, hub: ServedHub, model: Model, seed: int) -> int:
    """Mount, look, write, kill. Returns how many acts were acknowledged."""
    chance = random.Random(seed)
    daemon = Foreground.start(home, BUCKET)
    found = acknowledged.look(daemon.place)
    assert_as_written(model, found, f"after the kill before seed {seed}")
    model.take(found)
    writing = Writing(daemon.place, home.root / "written.log", seed, model).start()
    syncing = sync_until_killed(daemon, [chance.uniform(0, 0.5) for _ in range(20)] if chance.random() < 0.7 else [])
    time.sleep(chance.uniform(0.05, 1.2))
    if chance.random() < 0.15:
        hub.kill()
        time.sleep(chance.uniform(0, 0.3))
        daemon.kill()
        hub.start()
    else:
        daemon.kill()
    syncing.join()
    return writing.join()


def check_rounds(home: Home, rounds: int, seed: int) -> None:
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("writer")
        home.extra.update(account.variables())
        (home.root / "Buckets").mkdir()
        home.cli("buck", "create", BUCKET)
        model = Model()
        acts = sum(one_round(home, hub, model, seed * 1000 + number) for number in range(rounds))
        daemon = Foreground.start(home, BUCKET)
        found = acknowledged.look(daemon.place)
        assert_as_written(model, found, "after the last kill")
        model.take(found)
        daemon.ask("sync")
        with account.plain() as plain:
            assert_as_written(model, at_the_hub(plain, BUCKET), "at the Hub")
        assert daemon.ask("status")["conflicts"] == [], "a single writer is in conflict with nobody"
        mounted = daemon.mounted()
        mounted.expect("changes wait here: ")  # the Hub was killed, too
        mounted.expect("had lost its process and is cleared")
        assert daemon.stop() == 0
        mounted.check_log()
    assert acts > rounds * 10, f"the writer hardly wrote: {acts} acts in {rounds} rounds"


def test_an_overwrite_that_was_cut_short_keeps_what_stood_behind() -> None:
    """The kill tests would accept a file whose end was lost, and a real loss would go unseen."""
    model = Model(entries={"f": acknowledged.File(b"0123456789", b"0123456789")})
    act = {"act": "overwrite", "path": "f", "offset": 2, "seed": 7, "size": 4}
    acknowledged.in_flight(model, act, synced=2)
    new = acknowledged.payload(7, 4)
    file = model.entries["f"]
    assert file is not None
    assert file.allows(b"01" + new[:2] + b"456789") and file.allows(b"01" + new + b"6789")
    assert not file.allows(b"0123456789") and not file.allows(b"01" + new[:2])


@pytest.mark.timeout(240)
def test_kill_mount_cut(home: Home) -> None:
    """After a kill of the mount, files that were closed or fsynced would be missing or changed."""
    check_rounds(home, 20, seed=1)


@pytest.mark.whole
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [2, 3])
def test_kill_mount_whole(home: Home, seed: int) -> None:
    """The same over hundreds of kills: a rare moment would lose what was acknowledged."""
    check_rounds(home, 100, seed)
