"""Log lines on standard error: for systemd's journal with a level, and without a time, which the journal adds.

The manager names in ``$JOURNAL_STREAM`` the file that it made standard error (systemd.exec(5)); a level is a prefix like ``<4>``
(sd-daemon(3)). So ``journalctl --user -p warning`` finds warnings, and no line has two times.
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
    """Whether standard error goes to the journal. The variable alone does not tell: a child with another one inherits it."""
    try:
        facts = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def levelled(text: str, level: int) -> str:
    """``text`` with the level (of syslog(3)) before each of its lines."""
    return "\n".join(f"<{level}>{line}" for line in text.splitlines())


class LineFormatter(logging.Formatter):
    """A record's message is one line, whatever the names in it are; a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.formatMessage`."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.format`."""
        return "\n".join(visible(line) for line in super().format(record).split("\n"))


class JournalFormatter(LineFormatter):
    """Lines with a level, for the journal."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.format`."""
        level = next(level for least, level in _LEVELS if record.levelno >= least)
        return levelled(super().format(record), level)
