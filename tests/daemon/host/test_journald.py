"""Lines on standard error, with and without systemd's journal behind it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bucketfs.daemon import JournalFormatter

PROGRAM = """
import click, logging, sys
from bucketfs.cli.commands import log_to_standard_error
from bucketfs.cli.outcome import run
def fail():
    log_to_standard_error(False)
    logging.getLogger("bucketfs.x").warning("first\\nsecond")
    raise RuntimeError("oh")
sys.exit(run([], click.Command("bucketfs", callback=fail)))
"""


@pytest.mark.parametrize("said", ["its own", "another's", None])
def test_lines_have_levels_where_the_journal_listens(tmp_path: Path, said: str | None) -> None:
    """`journalctl -p warning` would not show what went wrong; or lines in a log file would begin with "<4>" instead of the
    time."""
    log = tmp_path / "log"
    with log.open("wb") as err:
        facts = os.fstat(err.fileno())
        streams = {"its own": f"{facts.st_dev}:{facts.st_ino}", "another's": f"{facts.st_dev}:1"}
        environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        if said is not None:
            environment["JOURNAL_STREAM"] = streams[said]
        assert subprocess.run([sys.executable, "-c", PROGRAM], stderr=err, env=environment).returncode == 1
    lines = log.read_text().splitlines()
    if said == "its own":
        assert lines[0] == "<4>bucketfs.x: first\\nsecond"
        assert lines[1].startswith("<3>bucketfs: unexpected RuntimeError: oh")
    else:
        assert lines[0].endswith(" WARNING bucketfs.x: first\\nsecond") and lines[0][:2] == "20"
        assert lines[1].startswith("bucketfs: unexpected RuntimeError: oh")


def test_a_traceback_has_one_level() -> None:
    """The journal would show the first line of a traceback as an error, and file the rest of it elsewhere."""
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("bucketfs.x", logging.ERROR, "x.py", 1, "what %s", ("failed",), sys.exc_info())
    lines = JournalFormatter().format(record).splitlines()
    assert lines[0] == "<3>bucketfs.x: what failed" and lines[-1] == "<3>ValueError: why"
    assert all(line.startswith("<3>") for line in lines) and len(lines) > 3
