"""Credentials, and the headers (gRPC metadata) they become on each call. Pure: the time is given.

Sources: textileio/textile ``api/common/common.go``, go-threads ``core/thread/context.go``, js-hub ``packages/context``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from bucketfs.dag import multibase_encode
from bucketfs.keys import api_signature, signature_message, thread_text
from bucketfs.types import ThreadId


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who calls. Empty fields are not sent. Secrets stay out of ``repr``.

    ``session`` (and ``org``) act as a developer (or one of their orgs) and win over an API key at the Hub. ``api_key`` alone is
    enough for a key that is not secure; else ``api_secret`` signs, or ``api_sig`` and ``api_sig_msg`` carry a signature made
    elsewhere. A user key also needs ``token``, which can be got with ``identity`` (the text of a private key, never sent).
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


def metadata(
    credentials: Credentials, now: datetime, thread: ThreadId | None = None, thread_name: str = ""
) -> list[tuple[str, str]]:
    """The headers of one call, names in lower case.

    ``thread`` is the thread the call is about; ``thread_name`` is the name of a thread to be made, by which ``GetThread`` finds it.
    Raises InvalidArgument for a secret that does not decode.
    """
    signature, signed = credentials.api_sig, credentials.api_sig_msg
    if credentials.api_secret:
        signed = signature_message(now)
        signature = multibase_encode(api_signature(credentials.api_secret, signed))
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
