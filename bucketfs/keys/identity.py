"""An identity: an ed25519 key pair in the texts a Hub uses for users, and what is signed with it.

Key bytes are the libp2p protobuf ``{1: key type = 1 (Ed25519), 2: data}`` (libp2p peer-ids spec); texts are multibase base32
of them (go-threads ``core/thread/identity.go``, js-hub ``packages/crypto``). Roles and owners are compared as strings, so the
one spelling written here is the only one. Pure, but for ``Identity.generate``, which asks the system for 32 random bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from nacl.utils import random as random_bytes

from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument

SEED_BYTES = 32

_PRIVATE_HEAD = bytes.fromhex("08011240")
# libp2p wrote the public half twice before 2020.
_PRIVATE_HEAD_OLD = bytes.fromhex("08011260")
_PUBLIC_HEAD = bytes.fromhex("08011220")


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A key pair, named by its 32-byte seed. ``repr`` shows the public half only."""

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise InvalidArgument(f"the seed of an identity has {SEED_BYTES} bytes, not {len(self.seed)}")

    @classmethod
    def generate(cls) -> Identity:
        """A fresh identity."""
        return cls(random_bytes(SEED_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Identity:
        """The identity of a private-key text (``bbaareq…``). Raises InvalidArgument, without the text in the message."""
        try:
            data = multibase_decode(text.strip())
        except InvalidArgument:
            raise InvalidArgument("not a private key: letters are missing, or wrong") from None
        return cls.from_bytes(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Identity:
        """The identity of private-key bytes, as ``GetIdentity`` returns them, in the present or the old form. Raises
        InvalidArgument."""
        new = data.startswith(_PRIVATE_HEAD) and len(data) == 68
        old = data.startswith(_PRIVATE_HEAD_OLD) and len(data) == 100
        if not new and not old:
            raise InvalidArgument("not an ed25519 private key")
        identity = cls(data[4:36])
        if any(data[start : start + 32] != identity.public_raw for start in range(36, len(data), 32)):
            raise InvalidArgument("not an ed25519 private key: its public half belongs to another key")
        return identity

    @property
    def public_raw(self) -> bytes:
        """The 32 bytes of the public key."""
        return bytes(SigningKey(self.seed).verify_key)

    @property
    def public_bytes(self) -> bytes:
        """The protobuf of the public key, 36 bytes."""
        return _PUBLIC_HEAD + self.public_raw

    @property
    def public_key(self) -> str:
        """The text of the public key (59 characters, ``bbaarei…``): the name of this user in roles and owners."""
        return multibase_encode(self.public_bytes)

    @property
    def private_bytes(self) -> bytes:
        """The protobuf of the private key, 68 bytes: a secret."""
        return _PRIVATE_HEAD + self.seed + self.public_raw

    @property
    def private_key(self) -> str:
        """The text of the private key, 110 characters: a secret."""
        return multibase_encode(self.private_bytes)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message`` itself (of a token's challenge: of its raw 32 bytes)."""
        return SigningKey(self.seed).sign(message).signature

    def __repr__(self) -> str:
        return f"Identity({self.public_key})"


def public_key_text(raw: bytes) -> str:
    """The text of a public key of 32 raw bytes."""
    return multibase_encode(_PUBLIC_HEAD + raw)


def parse_public_key(text: str) -> bytes:
    """The 32 raw bytes of a public-key text in any multibase. Raises InvalidArgument."""
    return _raw(multibase_decode(text))


def public_key_of(data: bytes) -> str:
    """The text of a public key's protobuf, as calls for accounts return it. Raises InvalidArgument."""
    return public_key_text(_raw(data))


def public_key_bytes(text: str) -> bytes:
    """The protobuf (36 bytes) of a public-key text in any multibase. Raises InvalidArgument."""
    return _PUBLIC_HEAD + parse_public_key(text)


def _raw(data: bytes) -> bytes:
    if not data.startswith(_PUBLIC_HEAD) or len(data) != 36:
        raise InvalidArgument("not an ed25519 public key")
    return data[4:]


def verify_signature(public_raw: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``public_raw``."""
    try:
        VerifyKey(public_raw).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
