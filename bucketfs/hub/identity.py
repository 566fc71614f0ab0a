"""Identities (ed25519 key pairs) and the tokens that a hub's host key signs.

Key texts are multibase base32 of the libp2p key protobuf ``{1: key type 1 (Ed25519), 2: data}`` (libp2p peer-ids spec). A
token is a JWS whose header names the algorithm ``Ed25519`` (RFC 9864), as go-threads writes them; most JWT libraries expect
``EdDSA``, so it is made and read by hand.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from nacl.bindings import crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument

PRIVATE_HEAD = bytes.fromhex("08011240")
PRIVATE_HEAD_OLD = bytes.fromhex("08011260")
PUBLIC_HEAD = bytes.fromhex("08011220")
TOKEN_HEADER = b'{"alg":"Ed25519","typ":"JWT"}'
TOKEN_BYTES_MAX = 8192


class Identity:
    """A private key. Its repr shows the public half only; two of the same seed are equal."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise InvalidArgument("an ed25519 seed has 32 bytes")
        self._key = SigningKey(seed)
        self.public_key: str = public_key_text(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> Identity:
        """A fresh one from the system's randomness."""
        return cls(bytes(SigningKey.generate()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Identity:
        """From the libp2p protobuf of a private key, in the present or the old form. Raises InvalidArgument."""
        if data[:4] == PRIVATE_HEAD and len(data) == 68:
            repeated = data[36:]
        elif data[:4] == PRIVATE_HEAD_OLD and len(data) == 100:
            repeated = data[36:68]
            if data[68:] != repeated:
                raise InvalidArgument("the two public halves of a private key differ")
        else:
            raise InvalidArgument("not an ed25519 private key")
        identity = cls(data[4:36])
        if repeated != bytes(identity._key.verify_key):
            raise InvalidArgument("the public half of a private key does not belong to its seed")
        return identity

    @classmethod
    def from_text(cls, text: str) -> Identity:
        """From the multibase text of a private key. Raises InvalidArgument."""
        return cls.from_bytes(multibase_decode(text))

    @property
    def seed(self) -> bytes:
        return bytes(self._key)

    @property
    def private_bytes(self) -> bytes:
        """The libp2p protobuf of the private key, 68 bytes."""
        return PRIVATE_HEAD + crypto_sign_seed_keypair(self.seed)[1]

    @property
    def private_key(self) -> str:
        """Multibase text, 110 characters."""
        return multibase_encode(self.private_bytes)

    @property
    def public_bytes(self) -> bytes:
        """The libp2p protobuf of the public key, 36 bytes."""
        return PUBLIC_HEAD + bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """64 bytes of ed25519 signature over the message itself."""
        return bytes(self._key.sign(message).signature)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.public_key == self.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.public_key})"


def public_key_text(raw: bytes) -> str:
    """The text of a raw 32-byte public key: the one spelling that roles and owners are compared in."""
    return multibase_encode(PUBLIC_HEAD + raw)


def parse_public_key(text: str) -> bytes:
    """The raw 32 bytes of a public key text in any multibase. Raises InvalidArgument."""
    data = multibase_decode(text)
    if data[:4] != PUBLIC_HEAD or len(data) != 36:
        raise InvalidArgument("not an ed25519 public key")
    return data[4:]


def public_key_bytes(text: str) -> bytes:
    """The libp2p protobuf (36 bytes) of a public key text. Raises InvalidArgument."""
    return PUBLIC_HEAD + parse_public_key(text)


def verify_signature(raw_public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the key's over ``message``."""
    if len(signature) != 64:
        return False
    try:
        VerifyKey(raw_public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


LINK_AUDIENCE = "link"
"""What the token of a link is for. No owner is called so, so it is never taken for a thread token."""
LINK_S = 24 * 3600
"""How long the token of a link is good."""


def make_token(host: Identity, subject: str, now_ns: int, owner: str = "") -> str:
    """A thread token for the public key text ``subject``, good beside the keys of ``owner`` (public key text). Tokens do not
    expire.
    """
    claims = {"iat": now_ns // 1_000_000_000, "iss": host.public_key, "sub": subject}
    return _signed(host, {"aud": owner, **claims} if owner else claims)


def make_link_token(host: Identity, subject: str, bucket: str, path: str, now_ns: int) -> str:
    """A token that lets ``subject`` look at one path of one bucket, over HTTP and for a day. No call takes it."""
    now_s = now_ns // 1_000_000_000
    scope = {"aud": LINK_AUDIENCE, "bucket": bucket, "exp": now_s + LINK_S, "path": path}
    return _signed(host, {**scope, "iat": now_s, "iss": host.public_key, "sub": subject})


def _signed(host: Identity, claims: Mapping[str, object]) -> str:
    body = f"{_b64(TOKEN_HEADER)}.{_b64(json.dumps(claims, separators=(',', ':'), sort_keys=True).encode())}"
    return f"{body}.{_b64(host.sign(body.encode()))}"


class TokenMalformed(InvalidArgument):
    """The text is not a JWT, or one without a subject."""


class TokenForged(InvalidArgument):
    """The JWT is none that this host signed, or not for this use."""


def token_subject(host: Identity, token: str, owner: str = "") -> str:
    """The public key text of the subject, once the host's signature was verified, and that it was issued under ``owner``.

    Raises TokenMalformed, TokenForged, or InvalidArgument when the subject is no public key.
    """
    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        raise TokenMalformed("not a token")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenMalformed("not a token")
    try:
        header, claims, signature = (_unb64(part) for part in parts)
        head, body = json.loads(header), json.loads(claims)
    except (ValueError, RecursionError) as error:
        raise TokenMalformed("not a token") from error
    if not isinstance(head, dict) or not isinstance(body, dict) or not isinstance(body.get("sub"), str):
        raise TokenMalformed("not a token")
    # The algorithm is ours to name, not the token's: a header that says "none" or "HS256" is a forgery.
    own = VerifyKey(parse_public_key(host.public_key))
    if head.get("alg") != "Ed25519" or not verify_signature(bytes(own), f"{parts[0]}.{parts[1]}".encode(), signature):
        raise TokenForged("not a token of this hub")
    if body.get("aud", "") != owner:
        raise TokenForged("not a token for the keys of this owner")
    return public_key_text(parse_public_key(body["sub"]))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
