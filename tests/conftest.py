"""What all tests share: the choice between cuts and wholes, and the sweep of what a run leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import leftovers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="also the tests marked `whole`, the long ones")


def pytest_configure(config: pytest.Config) -> None:
    # The suite says the same twice in a row; the long runs look at new examples each time.
    settings.register_profile("suite", derandomize=not config.getoption("--whole"), deadline=None)
    settings.load_profile("suite")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun by a shell in the background: what the tests start would ignore Ctrl-C, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    leftovers.run_name()  # before xdist starts its workers, so that they inherit it


def _is_worker(session: pytest.Session) -> bool:
    return hasattr(session.config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not _is_worker(session):
        for said in leftovers.sweep_stale():
            print(f"swept from an earlier run: {said}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The last word, also after Ctrl-C. What has to be ended here was left behind by a test, and that fails the run."""
    if _is_worker(session):
        return
    left = leftovers.sweep(leftovers.run_name())
    for said in left:
        print(f"\nleft behind by the tests: {said}")
    if left and not exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Wholes run only when asked for; tests of one file that serve real mounts stay in one process."""
    if not config.getoption("--whole"):
        wholes = [item for item in items if item.get_closest_marker("whole")]
        if wholes:
            config.hook.pytest_deselected(items=wholes)
            items[:] = [item for item in items if not item.get_closest_marker("whole")]
    for item in items:
        if item.path.parent.name in ("mount", "stories", "field", "samples"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def stage() -> Iterator[Path]:
    """A folder of this test process, short in name and open to every user."""
    folder = leftovers.new_stage(os.environ.get("PYTEST_XDIST_WORKER", "one"))
    yield folder
    # With a mount still below it nothing is removed here: the last sweep unmounts first and says so.
    if not leftovers.mounts_below(folder):
        shutil.rmtree(folder)
