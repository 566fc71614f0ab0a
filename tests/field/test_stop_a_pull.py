"""A pull that is stopped while it writes a large file: nothing of it is left then, or, after a kill, after the next run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from support.home import program
from support.proxy import Proxy, Weather
from support.waiting import eventually

from bucketfs.config import CredentialsFile, find_paths
from bucketfs.hub import HubServer

SLOW = Weather(bytes_per_s=1 << 18)
ENDS = {signal.SIGTERM: -signal.SIGTERM, signal.SIGHUP: -signal.SIGHUP, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}


def temporaries(top: Path) -> list[str]:
    return [path.name for path in top.rglob(".bucketfs-aside-*") if not path.is_dir()]


def test_nothing_of_it_is_left(hub: HubServer, buck: Callable[..., str], tmp_path: Path) -> None:
    """A stopped pull would leave large temporary files, a folder with another mode, or remove a file of the user."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/large").write_bytes(os.urandom(16 << 20))
    buck("push", tree, "home")
    tops = {number: tmp_path / f"here{number}" for number in ENDS}
    pulls = {}
    for top in tops.values():
        # A folder of the user's that takes no names as it is.
        (top / "sub").mkdir(parents=True)
        (top / "sub").chmod(0o555)
    with Proxy(hub.address, 1, SLOW) as proxy:
        known = CredentialsFile(find_paths(os.environ).credentials_file)
        known.save(replace(known.profile("default"), name="slow", hub=proxy.address))
        try:
            for number, top in tops.items():
                command = [*program(), "buck", "pull", "--profile", "slow", "home", str(top)]
                pulls[number] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            for number, pull in pulls.items():
                eventually(lambda: bool(temporaries(tops[number])), "nothing is being written")  # noqa: B023
                pull.send_signal(number)
            ended = {number: pull.wait(30) for number, pull in pulls.items()}
        finally:
            for pull in pulls.values():
                pull.kill()
                pull.wait()
    assert ended == ENDS
    killed = tops.pop(signal.SIGKILL)
    assert not any(temporaries(top) for top in tops.values())
    assert {(top / "sub").stat().st_mode & 0o777 for top in tops.values()} == {0o555}
    assert temporaries(killed)
    (killed / ".bucketfs-aside-mine").touch()
    buck("pull", "home", killed)
    assert temporaries(killed) == [".bucketfs-aside-mine"]
    assert (killed / "sub/large").read_bytes() == (tree / "sub/large").read_bytes()
    assert not list((tmp_path / "state/bucketfs/aside").iterdir())
