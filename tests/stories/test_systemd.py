"""The units of systemd/ under a real ``systemd --user`` of our own: ready means mounted, stop means drained, a kill is repaired."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import leftovers
from support.home import CHECKOUT, Home, Mounted, program
from support.plainclient import PlainClient
from support.served import Account, free_address
from support.small_disk import AS_ROOT
from support.writing import at_the_hub

MANAGER = "/lib/systemd/systemd"
BOOTED = Path("/run/systemd/system")
"""systemd and its tools take this folder for the sign that the machine runs on it, and do nothing without."""

BARE_MAX_S = 0.3
"""For so long the folder below a mount may be seen while a dead mount is replaced; on an idle machine it is about 10 ms."""


@dataclass(eq=False)
class Manager:
    """A service manager for one home."""

    home: Home

    def ctl(self, *words: str, check: bool = True, timeout_s: float = 100) -> str:
        done = self.home.run(["systemctl", "--user", *words], check=check, timeout_s=timeout_s)
        return done.stdout.strip()

    def show(self, unit: str, *names: str) -> dict[str, str]:
        lines = self.ctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def unit_of(self, place: Path) -> str:
        return f"bucketfs@{self.home.run(['systemd-escape', '--path', place]).stdout.strip()}.service"


@contextmanager
def manager_of(home: Home) -> Iterator[Manager]:
    made = not BOOTED.is_dir()
    if made:
        subprocess.run([*AS_ROOT, "mkdir", "-p", BOOTED], check=True)
    units = home.root / "config/systemd/user"
    units.mkdir(parents=True)
    for unit in (CHECKOUT / "systemd").iterdir():
        (units / unit.name).symlink_to(unit)
        # No journald listens here. What the services say goes where the log check finds it.
        (units / f"{unit.name}.d").mkdir()
        (units / f"{unit.name}.d/log.conf").write_text(f"[Service]\nStandardError=append:{home.root}/state/service.log\n")
    script = home.root / ".local/bin/bucketfs"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    script.chmod(0o755)
    log = (home.root / "state/systemd.log").open("ab")
    process = subprocess.Popen([MANAGER, "--user"], env=home.environment(), cwd="/", stdout=log, stderr=log)
    manager = Manager(home)
    try:
        eventually(lambda: (home.root / "run/systemd/private").exists())
        eventually(lambda: manager.ctl("is-system-running", check=False) in ("running", "degraded"))
        yield manager
    finally:
        # It stops every service in its way, and ends.
        process.terminate()
        try:
            process.wait(100)
        finally:
            process.kill()
            process.wait()
            log.close()
            if made:
                # Other programs ask for this folder, too, and the machine does not run on systemd.
                subprocess.run([*AS_ROOT, "rmdir", BOOTED], check=True)


def eventually(question: Callable[[], bool], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.05)


@pytest.fixture
def manager(home: Home) -> Iterator[Manager]:
    with manager_of(home) as one:
        yield one


def hub_service(manager: Manager) -> Account:
    """The Hub's unit, started, and an account on it; the home's keys are written for the mounts."""
    home, address = manager.home, free_address()
    settings = {
        "BUCKETFS_SERVE_LISTEN": address,
        "BUCKETFS_SERVE_DATA": str(home.root / "hub"),
        "BUCKETFS_SERVE_AUTO_CONFIRM": "true",
    }
    set_environment(manager, "bucketfs-hub.service", settings)
    manager.ctl("start", "bucketfs-hub.service")
    # Started is ready: no waiting, no second try.
    with PlainClient(address) as client:
        client.signup("writer", "writer@example.com")
        return Account(address, *client.new_key())


def set_environment(manager: Manager, unit: str, settings: dict[str, str]) -> None:
    """What ``systemctl edit`` does."""
    folder = manager.home.root / "config/systemd/user" / f"{unit}.d"
    folder.mkdir(exist_ok=True)
    lines = [f'Environment="{key}={value}"' for key, value in settings.items()]
    (folder / "settings.conf").write_text("\n".join(["[Service]", *lines, ""]))
    manager.ctl("daemon-reload")


def listing(place: Path) -> list[str] | None:
    """The names there, or ``None`` when the mount is dead. Any other error is raised."""
    try:
        return sorted(os.listdir(place))
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
        return None


@pytest.mark.timeout(240)
def test_a_mount_as_a_service(manager: Manager) -> None:
    """A mount under systemd would count as ready too early, not restart after a kill, or stop before its last changes are
    pushed."""
    home = manager.home
    account = hub_service(manager)
    home.extra.update(account.variables())
    home.cli("buck", "create", "work")
    place = home.root / "My Buckets"
    unit = manager.unit_of(place)
    set_environment(manager, unit, account.variables() | {"BUCKETFS_BUCKET": "work"})

    # The Hub may not gain privileges, nor call what no server needs.
    status = Path(f"/proc/{manager.show('bucketfs-hub.service', 'MainPID')['MainPID']}/status").read_text()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status

    # Start is READY, and READY is a mount that answers.
    manager.ctl("start", unit)
    (place / "one").write_text("1")
    assert listing(place) == ["one"]
    facts = manager.show(unit, "ActiveState", "StatusText", "MainPID")
    assert facts["ActiveState"] == "active" and str(place) in facts["StatusText"]

    # kill -9: started again, nothing lost, and in between the mount point is dead or right, not empty.
    pid = int(facts["MainPID"])
    os.kill(pid, signal.SIGKILL)
    # (Only the kernel's exchange of the dead mount for the new one, two system calls of the new daemon, shows what is below.)
    dead = bare_s = 0.0
    deadline = time.monotonic() + 60
    while listing(place) is None or not dead or manager.show(unit, "NRestarts")["NRestarts"] == "0":
        before = time.monotonic()
        names = listing(place)
        assert names in (None, [], ["one"])
        time.sleep(0.01)
        assert time.monotonic() < deadline, "not started again"
        dead += names is None
        bare_s += time.monotonic() - before if names == [] else 0
    assert bare_s < BARE_MAX_S, f"the folder below was in sight for {bare_s:.2f} s"
    # The mount answers a moment before the service manager is told.
    eventually(lambda: manager.show(unit, "ActiveState") == {"ActiveState": "active"})
    assert (place / "one").read_text() == "1"

    # The Hub is killed and comes back, too.
    os.kill(int(manager.show("bucketfs-hub.service", "MainPID")["MainPID"]), signal.SIGKILL)
    (place / "two").write_text("2" * 1_000_000)
    eventually(
        lambda: (
            manager.show("bucketfs-hub.service", "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}
        )
    )

    # Stop is drained.
    (place / "three").write_text("3")
    manager.ctl("stop", unit)
    facts = manager.show(unit, "ActiveState", "Result")
    assert facts == {"ActiveState": "inactive", "Result": "success"}
    assert not any(mount.where == place for mount in leftovers.mounts())
    with account.plain() as plain:
        assert at_the_hub(plain, "work") == {"one": b"1", "two": b"2" * 1_000_000, "three": b"3"}
    mounted = Mounted(home, place, "", {})
    mounted.expect("had lost its process and is cleared|changes wait here: ")
    mounted.check_log()
    manager.ctl("stop", "bucketfs-hub.service")
    assert manager.show("bucketfs-hub.service", "Result") == {"Result": "success"}


@pytest.mark.timeout(180)
def test_a_mount_of_the_embedded_hub_as_a_service(manager: Manager) -> None:
    """Its Hub runs in the service's control group, and must not be stopped before it has taken the last changes."""
    home = manager.home
    place = home.root / "Buckets"
    unit = manager.unit_of(place)
    manager.ctl("start", unit)
    (place / "home/file").write_text("kept")
    manager.ctl("stop", unit)
    assert manager.show(unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert "wait in the journal" not in (home.root / "state/service.log").read_text(), "it was stopped before it was drained"
    home.forget("state", "cache")
    manager.ctl("start", unit)
    assert (place / "home/file").read_text() == "kept"
    # The manager goes, as when a user logs out or the machine goes down: services are stopped, and so drained.
    (place / "home/last").write_text("kept, too")


def test_mistakes_in_the_settings_are_not_tried_for_ever(manager: Manager) -> None:
    """systemd would restart a mount with a wrong setting for ever, and the log would not name the setting."""
    home = manager.home
    place = home.root / "Buckets"
    unit = manager.unit_of(place)
    set_environment(manager, unit, {"BUCKETFS_DRAIN": "soon"})
    assert manager.home.run(["systemctl", "--user", "start", unit], check=False).returncode != 0
    facts = manager.show(unit, "ActiveState", "NRestarts", "ExecMainStatus")
    assert facts == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "2"}
    assert "BUCKETFS_DRAIN" in (home.root / "state/service.log").read_text()
