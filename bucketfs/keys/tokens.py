"""Tokens: JWTs that a Hub signs with its host key, for users and for links. Pure: the time is given.

The header names the algorithm ``Ed25519`` (RFC 9864), as go-threads writes it. A user's token does not expire; ``aud`` names the
owner of the API keys that it is good beside. A link's token opens one path over HTTP for a day; no call takes it.

joserfc is imported where a token is signed or checked: it takes 75 ms to load, and every command imports this room.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bucketfs.errors import InvalidArgument
from bucketfs.keys.identity import Identity, parse_public_key, public_key_text

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

TOKEN_BYTES_MAX = 8192
LINK_AUDIENCE = "link"
"""No owner is called so: the token of a link is never taken for a user's."""
LINK_S = 24 * 3600

_ALGORITHM = "Ed25519"


class TokenMalformed(InvalidArgument):
    """The text is not a JWT, or one without a subject."""


class TokenForged(InvalidArgument):
    """This host did not sign the JWT, or signed it for another use."""


class TokenExpired(InvalidArgument):
    """The token of a link, whose time is over."""


def make_token(host: Identity, subject: str, now_ns: int, owner: str = "") -> str:
    """A token for the user ``subject``, good beside the API keys of ``owner``; both are public-key texts."""
    claims = {"iat": now_ns // 1_000_000_000, "iss": host.public_key, "sub": subject}
    return _signed(host, {"aud": owner, **claims} if owner else claims)


def make_link_token(host: Identity, subject: str, bucket: str, path: str, now_ns: int) -> str:
    """A token that lets ``subject`` look at one path of one bucket."""
    now_s = now_ns // 1_000_000_000
    scope = {"aud": LINK_AUDIENCE, "bucket": bucket, "exp": now_s + LINK_S, "path": path}
    return _signed(host, {**scope, "iat": now_s, "iss": host.public_key, "sub": subject})


@dataclass(frozen=True, slots=True)
class TokenScope:
    """What a token allows over HTTP: to look as ``subject``.

    A user's token is good in the threads under keys of ``owner``; a link's for ``bucket`` and what is at and below ``path`` there.
    """

    subject: str
    owner: str = ""
    bucket: str = ""
    path: str = ""


def token_subject(host: Identity, token: str, owner: str = "") -> str:
    """The public-key text of the user that ``host`` gave the token to, for use beside the API keys of ``owner``.

    Raises TokenMalformed, TokenForged, or InvalidArgument when the subject is no public key.
    """
    claims = _genuine_claims(host, token)
    if claims.get("aud", "") != owner:
        raise TokenForged("not a token for the keys of this owner")
    return public_key_text(parse_public_key(claims["sub"]))


def token_scope(host: Identity, token: str, now_ns: int) -> TokenScope:
    """What a token of a user or of a link allows over HTTP.

    Raises TokenMalformed, TokenForged, TokenExpired, or InvalidArgument when the subject is no public key.
    """
    claims = _genuine_claims(host, token)
    subject, audience = public_key_text(parse_public_key(claims["sub"])), claims.get("aud", "")
    if audience != LINK_AUDIENCE:
        if not isinstance(audience, str):
            raise TokenForged("not a token of this hub")
        return TokenScope(subject, owner=audience)
    bucket, path, until_s = claims.get("bucket"), claims.get("path"), claims.get("exp")
    # A link without a bucket, or without an end, would open more than any link of this Hub.
    if not (isinstance(bucket, str) and bucket and isinstance(path, str) and isinstance(until_s, int)):
        raise TokenForged("not a link of this hub")
    if until_s * 1_000_000_000 <= now_ns:
        raise TokenExpired("the link has ended")
    return TokenScope(subject, bucket=bucket, path=path)


def _genuine_claims(host: Identity, token: str) -> dict[str, Any]:
    """The claims of a token that ``host`` signed. Raises TokenMalformed, TokenForged."""
    from joserfc import errors, jws, util

    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        raise TokenMalformed("not a token")
    try:
        read = jws.extract_compact(token.encode())
        claims = json.loads(read.payload)
        util.urlsafe_b64decode(read.segments["signature"])
    except (errors.JoseError, TypeError, ValueError, RecursionError) as error:
        raise TokenMalformed("not a token") from error
    if not isinstance(read.protected, dict) or not isinstance(claims, dict) or not isinstance(claims.get("sub"), str):
        raise TokenMalformed("not a token")
    try:
        # The algorithm is ours to name, not the token's: a header that says "none" or "HS256" is a forgery.
        genuine = jws.validate_compact(read, _key(host), [_ALGORITHM])
    except (errors.JoseError, TypeError) as error:
        raise TokenForged("not a token of this hub") from error
    if not genuine:
        raise TokenForged("not a token of this hub")
    return claims


def claimed_subject(token: str) -> str:
    """The public-key text that ``token`` says it was given to. Only the Hub can check the signature. Raises InvalidArgument."""
    parts = token.split(".")
    try:
        subject = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["sub"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("not a token of a Hub") from error
    if len(parts) != 3 or not isinstance(subject, str):
        raise InvalidArgument("not a token of a Hub")
    return subject


def _signed(host: Identity, claims: Mapping[str, object]) -> str:
    from joserfc import jws

    payload = json.dumps(claims, separators=(",", ":"), sort_keys=True)
    return jws.serialize_compact({"alg": _ALGORITHM, "typ": "JWT"}, payload, _key(host), [_ALGORITHM])


def _key(host: Identity) -> OKPKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from joserfc.jwk import OKPKey

    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(host.seed))
