"""What a client says about itself: credentials, and the metadata headers they become on each call.

Sources: textileio/textile ``api/common/common.go``, go-threads ``core/thread/context.go``, js-hub ``packages/context`` and
``packages/security``. Pure: the time is given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bucketfs.client.ids import thread_text
from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.types import ThreadId

SIGNATURE_LIFETIME = timedelta(hours=1)
"""How long a signature is made to hold: as the original command line does. A Hub allows no clock skew on the early side and
has no upper bound, so this is also how far our clock may be behind."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who calls. Empty fields are not sent. Secrets stay out of ``repr``.

    ``session`` (and ``org``) act as a developer (or one of their orgs) and win over an API key at the Hub. ``api_key``
    alone is enough when the key is not secure; else ``api_secret`` signs, or ``api_sig`` and ``api_sig_msg`` carry a
    signature that someone else made. A user key also needs ``token``, which ``identity`` (the text of a private key, never
    sent) can get.
    """

    api_key: str = ""
    api_secret: str = field(default="", repr=False)
    session: str = field(default="", repr=False)
    org: str = ""
    token: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    api_sig: str = field(default="", repr=False)
    api_sig_msg: str = ""


NO_CREDENTIALS = Credentials()


def api_signature(secret: str, message: str) -> str:
    """The ``x-textile-api-sig`` of ``message``: HMAC-SHA256 with the *decoded* secret. Raises InvalidArgument for a bad
    secret."""
    try:
        key = multibase_decode(secret)
    except InvalidArgument:
        raise InvalidArgument("the API secret is none that a Hub gave out: letters are missing, or wrong") from None
    return multibase_encode(hmac.digest(key, message.encode(), hashlib.sha256))


def signature_message(now: datetime) -> str:
    """The date that is signed: RFC 3339 in UTC with milliseconds, ``SIGNATURE_LIFETIME`` after ``now``."""
    until = (now + SIGNATURE_LIFETIME).astimezone(UTC)
    return until.strftime("%Y-%m-%dT%H:%M:%S.") + f"{until.microsecond // 1000:03d}Z"


def metadata(
    credentials: Credentials, now: datetime, thread: ThreadId | None = None, thread_name: str = ""
) -> list[tuple[str, str]]:
    """The headers of one call, names in lower case.

    ``thread`` is the thread the call is about; ``thread_name`` is read only where a thread is made, and is what
    ``GetThread`` finds it by. Raises InvalidArgument for a secret that does not decode.
    """
    signature, signed = credentials.api_sig, credentials.api_sig_msg
    if credentials.api_secret:
        signed = signature_message(now)
        signature = api_signature(credentials.api_secret, signed)
    headers = (
        ("x-textile-session", credentials.session),
        ("x-textile-org", credentials.org),
        ("x-textile-api-key", credentials.api_key),
        ("x-textile-api-sig", signature),
        ("x-textile-api-sig-msg", signed),
        ("x-textile-thread", thread_text(thread) if thread else ""),
        ("x-textile-thread-name", thread_name),
        ("authorization", f"bearer {credentials.token}" if credentials.token else ""),
    )
    # An empty value is an absent header to every Hub, and some proxies refuse one.
    return [(name, value) for name, value in headers if value]


def token_subject(token: str) -> str:
    """The public-key text a token was given to. The signature is the Hub's to check. Raises InvalidArgument."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        subject = claims["sub"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidArgument("not a token of a Hub") from error
    if len(parts) != 3 or not isinstance(subject, str):
        raise InvalidArgument("not a token of a Hub")
    return subject
