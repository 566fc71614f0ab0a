"""Starting bucketfs as a daemon: a process that outlives the one that starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    ``on_waiting`` gets what it waits for. Raises what it reports, TimedOut, or Unavailable when it died; both name the log. When
    this raises, also for an interrupt, the process is ended.
    """
    make_private(log_file.parent)
    ours, theirs = os.pipe()
    process: subprocess.Popen[bytes] | None = None
    try:
        with _interrupt_held():
            process = _popen(arguments, theirs, log_file)
        document = await_ready(ours, timeout_s, on_waiting)
    except BaseException as error:
        if isinstance(error, BucketfsError) and not error.hint and not isinstance(error, Refused):
            error.hint = f"its log may say why: {log_file}"
        if process is not None:
            _end(process)
        raise
    finally:
        os.close(ours)
    # The process lives on. Without this, Popen's destructor would warn that it still runs.
    process.returncode = 0
    return document


def _popen(arguments: Sequence[str], ready_fd: int, log_file: Path) -> subprocess.Popen[bytes]:
    """Start the process; closes ``ready_fd`` here."""
    options_end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [*arguments[:options_end], "--ready-fd", str(ready_fd), *arguments[options_end:]]
    try:
        with open(log_file, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bucketfs", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ready_fd,),
                start_new_session=True,
                # A daemon must not keep our current folder busy.
                cwd="/",
                env=_environment(),
            )
    finally:
        os.close(ready_fd)


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block only: raised within Popen, after its fork, it would leave a process that
    nothing ends."""
    handler = signal.getsignal(signal.SIGINT)
    # An interrupt that is ignored (``nohup``) must stay so: the daemon inherits that. Threads get no interrupt.
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        handler(signal.SIGINT, None)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    # ``-m bucketfs`` must find the package that runs now, wherever it was imported from, although the current folder changes.
    package_root = str(Path(bucketfs.__file__).resolve().parents[1])
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    # A notify socket belongs to the service that the manager started, not to a daemon that leaves it.
    environment.pop("NOTIFY_SOCKET", None)
    return environment
