"""A Hub whose clock is another than ours: nothing is lost, and what is wrong is named where one looks.

The cut of this for every day is tests/client/test_hub_clock.py.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support.home import Home
from support.waiting import eventually

from bucketfs.hub import HubConfig, HubServer

HOUR_NS = 3600 * 10**9


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_a_hub_with_another_clock(home: Home, tmp_path: Path) -> None:
    """With a wrong clock pushes would stop, or files be lost, and nothing would name the clock as the reason."""
    ahead_ns = [-2 * HOUR_NS]
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config, now_ns=lambda: time.time_ns() + ahead_ns[0]) as hub:
        # Behind us it accepts what we sign, and the difference shows.
        home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub.address)
        said = home.cli("hub", "whoami")
        assert said.stderr.strip() == "this machine's clock is 2 h ahead of the Hub's"
        assert json.loads(home.cli("hub", "whoami", "--json").stdout)["clock"] == said.stderr.strip()
        mount = home.mount()
        (mount.path / "notes").mkdir()
        (mount.path / "notes/one").write_text("one")
        mount.sync()
        assert "  clock: this machine's clock is 2 h ahead of the Hub's" in home.cli("status", mount.path).stdout

        # Ahead of us it accepts nothing that a key signs.
        mount.expect("clock is 2 h behind the Hub's")
        ahead_ns[0] = 2 * HOUR_NS
        wrong = "the signature has expired: this machine's clock is 2 h behind the Hub's: set the clock that is wrong"
        assert wrong in home.complaint("buck", "ls")
        key = json.loads(home.cli("hub", "key", "create", "--json").stdout)
        refused = home.cli(
            "hub", "login", "--key", "--hub", hub.address, stdin=f"{key['key']}\n{key['secret']}\n", check=False
        )
        assert wrong in refused.stderr and key["secret"] not in refused.stderr
        (mount.path / "notes/two").write_text("two")
        eventually(lambda: mount.status()["buckets"][0]["paused"] == "key", "pushes do not pause")
        shown = home.cli("status", mount.path).stdout
        assert "pushes pause, the Hub refuses the key" in shown and "2 h behind the Hub's" in shown
        assert (mount.path / "notes/one").read_text() == "one"

        ahead_ns[0] = 0
        mount.sync()
        assert mount.status()["connection"]["clock"] is None
        mount.umount()
        assert home.cli("buck", "ls", "notes").stdout.split() == ["one", "two"]
