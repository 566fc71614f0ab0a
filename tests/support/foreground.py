"""A mount's daemon as our own child, as a service manager has it: quicker to start than by the command, and easy to kill."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.home import Home, Mounted, program

from bucketfs.config import Paths
from bucketfs.daemon import ask


@dataclass(eq=False)
class Foreground:
    """``bucketfs mount --foreground``. ``said`` is what it told when it was ready."""

    home: Home
    place: Path
    process: subprocess.Popen[bytes]
    said: dict[str, Any]

    @classmethod
    def start(
        cls,
        home: Home,
        *arguments: str | Path,
        place: Path | None = None,
        command: Sequence[str] = (),
        timeout_s: float = 60,
    ) -> Foreground:
        """Start it and wait until it is ready. ``arguments`` come before the mount point; ``command`` stands for bucketfs."""
        place = place if place is not None else home.root / "Buckets"
        ours, theirs = os.pipe()
        try:
            with (home.root / "state" / "foreground.log").open("ab") as log:
                process = subprocess.Popen(
                    [
                        *(command or program()),
                        "mount",
                        "--foreground",
                        "--ready-fd",
                        str(theirs),
                        *map(str, arguments),
                        str(place),
                    ],
                    env=home.environment(),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs,),
                    **home.user.arguments(),
                )
            os.close(theirs)
            waited = select.select([ours], [], [], timeout_s)[0]
            said: dict[str, Any] = {"error": "it is not ready"}
            if waited:
                said = json.loads(os.read(ours, 65536) or b'{"error": "it died"}')
        finally:
            os.close(ours)
        if "ready" not in said:
            process.kill()
            process.wait()
            raise AssertionError(said)
        return cls(home, place, process, said["ready"])

    def kill(self) -> None:
        """SIGKILL to the daemon and nobody else; the dead mount point stays for whoever comes next."""
        assert self.process.poll() is None, "the daemon had ended before it was killed"
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM, and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def ask(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[[dict[str, Any]], None] = lambda document: None,
    ) -> dict[str, Any]:
        """A command of the control socket. Raises what the daemon raises."""
        home = self.home
        places = Paths(home.config, home.state, home.data, home.cache, home.root / "run/bucketfs")
        return ask(places.control_socket(self.place), command, arguments, on_progress=on_progress, timeout_s=timeout_s)

    def mounted(self) -> Mounted:
        """For the checks of `Mounted`; the log counts from its beginning."""
        return Mounted(self.home, self.place, "", {})
