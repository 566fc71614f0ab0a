"""What goes to standard error where systemd's journal listens to it: lines with a level, and without a time of our own.

The manager says in ``$JOURNAL_STREAM`` which file it made standard error (systemd.exec(5)); a level stands before a line as ``<4>``
(sd-daemon(3)). So ``journalctl --user -p warning`` finds what it should, and no line has two times.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from bucketfs.quoting import visible

ERROR = 3
_LEVELS = ((logging.ERROR, ERROR), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def journal_listens(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error is a journal's. A child with another one inherits the variable all the same."""
    try:
        facts = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def levelled(text: str, level: int) -> str:
    """``text`` with the level (of syslog(3)) before each of its lines."""
    return "\n".join(f"<{level}>{line}" for line in text.splitlines())


class LineFormatter(logging.Formatter):
    """A record's message is one line, whatever the names in it are; only what raised it has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.formatMessage`."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.format`."""
        return "\n".join(visible(line) for line in super().format(record).split("\n"))


class JournalFormatter(LineFormatter):
    """The message and what raised it."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.format`."""
        level = next(level for least, level in _LEVELS if record.levelno >= least)
        return levelled(super().format(record), level)
