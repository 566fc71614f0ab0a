"""API keys: the HMAC over a date that a secure one signs calls with. The date says how long the signature is good for.

Only the date's text counts: the same moment written differently has another signature (textileio/textile
``api/common/common.go``, js-hub ``packages/security``). Pure: the time is given.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

from bucketfs.dag import multibase_decode
from bucketfs.errors import InvalidArgument

SIGNATURE_LIFETIME = timedelta(hours=1)
"""How long a signature is made to hold: as the original command line does. A Hub allows no clock skew on the early side and
has no upper bound, so this is also how far a client's clock may be behind."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class KeyType(enum.IntEnum):
    """Whom an API key lets act: the account itself, or any user who brings a token. Numbers of ``api.hubd.pb.KeyType``."""

    ACCOUNT = 1
    USER = 2


def api_signature(secret: str, message: str) -> bytes:
    """HMAC-SHA256 with the *decoded* secret over ``message`` exactly as given. Raises InvalidArgument for a bad secret,
    without the secret in the message."""
    try:
        key = multibase_decode(secret)
    except InvalidArgument:
        raise InvalidArgument("the API secret is none that a Hub gave out: letters are missing, or wrong") from None
    return hmac.digest(key, message.encode(), hashlib.sha256)


def signature_matches(secret: str, message: str, signature: bytes) -> bool:
    """Whether ``signature`` is the secret's over this text, whatever the text says. Compares in constant time."""
    return hmac.compare_digest(api_signature(secret, message), signature)


def signature_message(now: datetime) -> str:
    """The date to sign: RFC 3339 in UTC with milliseconds, ``SIGNATURE_LIFETIME`` after ``now``."""
    until = (now + SIGNATURE_LIFETIME).astimezone(UTC)
    return until.strftime("%Y-%m-%dT%H:%M:%S.") + f"{until.microsecond // 1000:03d}Z"


def parse_date_ns(text: str) -> int:
    """An RFC 3339 date as nanoseconds since 1970; digits past the ninth are cut off. Raises InvalidArgument."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise InvalidArgument("not an RFC 3339 date")
    seconds, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
        whole = (moment - _EPOCH) // _SECOND
    except (ValueError, OverflowError) as error:
        raise InvalidArgument("not an RFC 3339 date") from error
    return whole * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])
