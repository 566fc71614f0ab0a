"""A mount that was told to end, and pushes its last changes for a while: everybody who asks hears of it, and the next one waits."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.home import Home, program
from support.proxy import Proxy
from support.served import ServedHub
from support.waiting import eventually


def started(home: Home, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program(), *map(str, words)],
        env=home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_it_is_listed_and_waited_for(home: Home) -> None:
    """While the last changes are pushed, `status` would show no mount, and a new mount of the bucket would fail or lack
    them."""
    with ServedHub(home, home.data / "served") as hub, Proxy(hub.address, seed=1) as proxy:
        account = hub.account("ann")
        home.extra.update(account.variables() | {"BUCKETFS_HUB": proxy.address})
        home.cli("buck", "create", "b")
        first = home.mount("--drain=60s", "--poll=1h", "b").path
        second = home.root / "second"
        second.mkdir()
        (first / "told").write_text("")
        home.cli("sync", first)
        proxy.change(freeze=True)
        (first / "last").write_text("change")
        home.cli("umount", "--no-wait", first)
        assert not (first / "last").exists()

        eventually(lambda: home.cli("status").stdout.splitlines()[1].startswith("  it is ending: "), "it is not told to end")
        said = home.cli("status").stdout.splitlines()
        assert said[0] == f"{first}: bucket b of the Hub {proxy.address}"
        assert said[1].startswith("  it is ending: the last changes are pushed, for up to ")
        assert any(line.startswith("  changes: ") and " wait" in line for line in said), said
        assert home.cli("status", first).stdout.splitlines()[1].startswith("  it is ending")
        assert "unmounted already" in home.cli("umount", "--no-wait", first).stdout

        with started(home, "umount", first) as unmounting, started(home, "mount", "--poll=1h", "b", second) as waiting:
            assert waiting.stdout is not None
            named = waiting.stdout.readline()
            assert named.startswith(f"waiting for the mount at {first} (process "), named
            assert unmounting.poll() is None and waiting.poll() is None
            proxy.change(freeze=False)
            rest, _ = waiting.communicate(timeout=100)
            assert waiting.returncode == 0, rest
            said_at_end, _ = unmounting.communicate(timeout=100)
            assert unmounting.returncode == 0 and said_at_end.splitlines()[-1].startswith(f"Unmounted {first}")
        assert (second / "last").read_text() == "change"

        # A mount that does not end is named, and how to end it.
        complaint = home.complaint("mount", "b", first)
        assert f"mounted already at {second} (process " in complaint and f"'bucketfs umount {second}'" in complaint
        home.cli("umount", second)
        eventually(lambda: not home.pids("mount"), "a daemon is left")
