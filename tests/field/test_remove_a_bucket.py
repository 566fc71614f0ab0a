"""``rm -rf`` of a bucket that is being pushed over a slow link: done at once, and the push ends with it."""

from __future__ import annotations

import os

from support.foreground import Foreground
from support.home import Home
from support.proxy import Proxy, Weather
from support.served import ServedHub
from support.waiting import eventually

MIB = 1 << 20


def test_rm_of_a_bucket_that_is_being_pushed(home: Home) -> None:
    """`rm -rf` of a bucket would wait until all of its files are sent, or go on sending them."""
    (home.root / "Buckets").mkdir()
    with ServedHub(home, home.root / "hub") as hub, Proxy(hub.address, 1) as proxy:
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", "B2")
        home.cli("buck", "create", "B3")
        home.extra["BUCKETFS_HUB"] = proxy.address
        daemon = Foreground.start(home)
        bucket = daemon.place / "B2"
        proxy.weather = Weather(bytes_per_s=4 * MIB)
        (bucket / "d").mkdir()
        for number in range(8):
            (bucket / f"d/{number}").write_bytes(os.urandom(6 * MIB))
        eventually(lambda: proxy.up_bytes > MIB, "the push did not begin")
        done = home.run(["rm", "-rf", bucket])
        assert done.stderr == "" and not bucket.exists()
        # What else there is to say to the Hub is said soon.
        (daemon.place / "B3/f").write_bytes(b"f")
        daemon.ask("sync")
        assert proxy.up_bytes < 24 * MIB, "a push went on for files that were gone"
        home.extra["BUCKETFS_HUB"] = hub.address
        assert "B2" not in home.cli("buck", "ls").stdout
        status = daemon.ask("status")
        assert status["removing"] == [] and status["pending_count"] == 0
        assert daemon.stop() == 0
