"""Parsers of the values of settings: from TOML they come typed, from the environment and the command line as text.

Each raises ValueError with what would have been right.
"""

from __future__ import annotations

import re
from pathlib import Path

from bucketfs.errors import InvalidArgument

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?\Z", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)\Z", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
INTERVAL_MIN_S = 0.1
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


def text(value: object) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    return value


def switch(value: object) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise ValueError("true or false")


def number(value: object) -> int:
    """A whole number that is not negative."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise ValueError("a whole number, 0 or more")


def size(value: object) -> int:
    """Bytes: ``500M``, ``10GiB``, ``0``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size like 500MB or 10GiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def seconds(value: object) -> float:
    """A duration: ``30``, ``1.5s``, ``5m``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a time like 30s or 5m")
    return float(match[1]) * _SECONDS[match[2].lower()]


def interval(value: object) -> float:
    """The pause between repetitions: a tenth of a second or more."""
    try:
        given_s = seconds(value)
    except ValueError:
        given_s = 0.0
    if given_s < INTERVAL_MIN_S:
        raise ValueError("a time like 30s or 5m, at least 0.1s")
    return given_s


def path(value: object) -> Path | None:
    """A path; ``~`` is the home folder, the empty text stands for none."""
    if isinstance(value, Path):
        return value.expanduser().absolute()
    return Path(text(value)).expanduser().absolute() if value else None


def thread(value: object) -> str:
    """The text of a thread ID; the empty text stands for none."""
    if value:
        from bucketfs.keys import thread_from_text  # only here: it brings the cryptography along

        try:
            thread_from_text(text(value))
        except InvalidArgument:
            raise ValueError("a thread ID as 'bucketfs buck get' shows it") from None
    return text(value)


def is_identity(value: str) -> bool:
    """Whether a text is the private key of an identity (in the one form that bucketfs writes) and not a path."""
    return value.startswith("bbaareq") and "/" not in value


def identity_file(value: object) -> Path | None:
    """A path; never the secret itself: every user of a machine can read command lines."""
    if isinstance(value, str) and is_identity(value):
        raise ValueError("the path of a file that holds the identity, not the identity")
    return path(value)


def user(value: object) -> int | None:
    """A user or group number; the empty text stands for none."""
    return None if value == "" else number(value)


def fsync_target(value: object) -> str:
    """What an fsync waits for: ``disk`` or ``hub``."""
    if value not in ("disk", "hub"):
        raise ValueError('"disk" or "hub"')
    return str(value)
