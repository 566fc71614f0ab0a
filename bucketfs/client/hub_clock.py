"""The Hub's clock compared with this machine's: read from the headers of an answer, and put in words.

The embedded Hub tells its time in the trailer ``bucketfs-time`` (docs/protocol.md): with each unary answer, and with the refusal of
a signature only when the date is the reason. Textile's Hub tells none; a web proxy before it may add an HTTP ``date`` (RFC 9110,
6.6.1). Without either, nothing is said of clocks. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

TIME_TRAILER = "bucketfs-time"
HTTP_DATE = "date"
NOTICEABLE = timedelta(minutes=2)
"""Less than this is a slow answer, or a clock that is right enough."""

HINT = "set the clock that is wrong; NTP keeps both right"


def hub_time(headers: Sequence[tuple[str, str | bytes]]) -> datetime | None:
    """What the Hub's clock showed when it answered; None when the Hub did not say."""
    found = {name: value for name, value in reversed(headers) if isinstance(value, str)}
    try:
        if TIME_TRAILER in found:
            told = datetime.fromisoformat(found[TIME_TRAILER])
        elif HTTP_DATE in found:
            told = parsedate_to_datetime(found[HTTP_DATE])
        else:
            return None
    except ValueError:
        return None
    # A time without a zone could be any; it says nothing.
    return told.astimezone(UTC) if told.tzinfo is not None else None


def behind_text(behind: timedelta) -> str:
    """``this machine's clock is 14 min behind the Hub's``, or ahead when ``behind`` is negative. Empty for a difference that does
    not matter."""
    if abs(behind) < NOTICEABLE:
        return ""
    side = "behind" if behind > timedelta(0) else "ahead of"
    return f"this machine's clock is {_length(abs(behind))} {side} the Hub's"


def _length(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    days, hours = minutes // 1440, minutes // 60
    if days >= 2:
        return f"{days} days"
    if hours >= 2:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{minutes} min"
