"""Starting ourselves as a process that lives on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bucketfs
from bucketfs.config import make_private
from bucketfs.daemon.host.ready import await_ready
from bucketfs.errors import BucketfsError, Refused


def spawn(
    arguments: Sequence[str], log_file: Path, timeout_s: float, on_waiting: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Run ``bucketfs ARGUMENTS --ready-fd N`` in a session of its own and wait until it is ready. Blocks.

    A new process, not a fork of this one: gRPC and threads do not survive a fork. What it prints goes to ``log_file``.
    Raises what it reports, TimedOut (it is ended then), or Unavailable when it died; both name the log. An interrupt ends it, too.
    ``on_waiting`` is told what it waits for.
    """
    make_private(log_file.parent)
    ours, theirs = os.pipe()
    options_end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [*arguments[:options_end], "--ready-fd", str(theirs), *arguments[options_end:]]
    log_descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "bucketfs", *words],
                stdin=subprocess.DEVNULL,
                stdout=log_descriptor,
                stderr=log_descriptor,
                pass_fds=(theirs,),
                start_new_session=True,
                # The folder we stand in must not be kept busy by a daemon.
                cwd="/",
                env=_environment(),
            )
        finally:
            os.close(theirs)
            os.close(log_descriptor)
        return _wait(process, ours, log_file, timeout_s, on_waiting)
    finally:
        os.close(ours)


def _wait(
    process: subprocess.Popen[bytes], ours: int, log_file: Path, timeout_s: float, on_waiting: Callable[[str], None]
) -> dict[str, Any]:
    try:
        document = await_ready(ours, timeout_s, on_waiting)
    except BaseException as error:
        if isinstance(error, BucketfsError) and not error.hint and not isinstance(error, Refused):
            error.hint = f"its log may say why: {log_file}"
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    # It is on its own now. Without this, Popen's destructor would complain that the process still runs.
    process.returncode = 0
    return document


def _environment() -> dict[str, str]:
    # ``-m bucketfs`` must find the package that runs now, wherever it was imported from and although the folder changes.
    package_root = str(Path(bucketfs.__file__).resolve().parents[1])
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    # A notify socket belongs to the service that was started by the manager, not to a daemon that leaves it.
    environment.pop("NOTIFY_SOCKET", None)
    return environment
