"""API signatures: an HMAC over a date, which says how long it is good for.

Only the date's text counts: the same moment written differently has another signature. Pure.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re

from bucketfs.dag import multibase_decode
from bucketfs.errors import InvalidArgument

_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECOND = datetime.timedelta(seconds=1)


def signature_of(secret: str, message: str) -> bytes:
    """HMAC-SHA256 with the decoded secret over the message exactly as given. Raises InvalidArgument for a secret that is
    none.
    """
    return hmac.digest(multibase_decode(secret), message.encode(), hashlib.sha256)


def signature_matches(secret: str, message: str, signature: bytes) -> bool:
    """Whether the signature is the secret's over this text, whatever it says. Compares in constant time."""
    return hmac.compare_digest(signature_of(secret, message), signature)


def signature_holds(secret: str, message: str, signature: bytes, now_ns: int) -> bool:
    """Whether the signature is right and its date has not passed."""
    right = signature_matches(secret, message, signature)
    try:
        return parse_date_ns(message) >= now_ns and right
    except InvalidArgument:
        return False


def parse_date_ns(text: str) -> int:
    """An RFC 3339 date as nanoseconds since 1970; digits past the ninth are cut off. Raises InvalidArgument."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise InvalidArgument("not an RFC 3339 date")
    seconds, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
        whole = (moment - _EPOCH) // _SECOND
    except (ValueError, OverflowError) as error:
        raise InvalidArgument("not an RFC 3339 date") from error
    return whole * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])
