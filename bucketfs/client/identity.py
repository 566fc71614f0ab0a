"""An identity: an ed25519 key pair in the texts a Hub uses for users, and what is signed with it.

Key bytes are the libp2p protobuf ``{1: key type = 1, 2: data}``; texts are multibase base32 of them (go-threads
``core/thread/identity.go``, js-hub ``packages/crypto``). Public-key texts are compared as strings in roles and owners, so
the one form written here is the only one. Pure, but for ``Identity.generate``, which asks the system for 32 random bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from nacl.utils import random as random_bytes

from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument

_PRIVATE_HEAD = bytes([0x08, 0x01, 0x12, 0x40])
_PRIVATE_HEAD_OLD = bytes([0x08, 0x01, 0x12, 0x60])
_PUBLIC_HEAD = bytes([0x08, 0x01, 0x12, 0x20])
_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair, named by its 32-byte seed, which ``repr`` does not show."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != _SEED_BYTES:
            raise InvalidArgument(f"the seed of an identity has {_SEED_BYTES} bytes, not {len(self.seed)}")

    @classmethod
    def generate(cls) -> Identity:
        """A fresh identity."""
        return cls(random_bytes(_SEED_BYTES))

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
        """The identity of private-key bytes, as ``GetIdentity`` returns them. The old form, which has the public half
        twice, is read too. Raises InvalidArgument."""
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
    def private_key_text(self) -> str:
        """The text of the private key: a secret."""
        return multibase_encode(_PRIVATE_HEAD + self.seed + self.public_raw)

    @property
    def public_key_text(self) -> str:
        """The text of the public key (59 characters, ``bbaarei…``): the name of this user in roles and owners."""
        return public_key_text(self.public_raw)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``; of a token's challenge it is taken over the raw 32 bytes."""
        return SigningKey(self.seed).sign(message).signature


def public_key_text(raw: bytes) -> str:
    """The text of a public key of 32 raw bytes."""
    return multibase_encode(_PUBLIC_HEAD + raw)


def public_raw_of_text(text: str) -> bytes:
    """The 32 bytes of a public-key text. Raises InvalidArgument."""
    data = multibase_decode(text)
    if not data.startswith(_PUBLIC_HEAD) or len(data) != 36:
        raise InvalidArgument(f"not an ed25519 public key: {text!r}")
    return data[4:]


def signature_holds(public_raw: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``public_raw``."""
    try:
        VerifyKey(public_raw).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
