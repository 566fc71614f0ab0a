"""Letters between users: sealed for the recipient, sealed again for the sender's own sentbox, signed by the sender.

::

    body       nonce[24] | ephemeral X25519 public key[32] | NaCl box of the text
    signature  ed25519 of the sender over the body

ed25519 keys become X25519 ones by the birational map (js-hub ``packages/crypto``). Pure, but for the random bytes of a new
letter.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey, VerifyKey
from nacl.utils import random as random_bytes

from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.keys import Identity, parse_public_key

_NONCE_BYTES = 24
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter ready to be sent. ``recipient`` is a public-key text."""

    recipient: str
    to_body: bytes
    to_signature: bytes
    from_body: bytes
    from_signature: bytes


def letter(sender: Identity, recipient: str, text: bytes) -> Letter:
    """``text`` as a letter. Raises InvalidArgument when ``recipient`` is no public-key text."""
    to_body = sealed(parse_public_key(recipient), text)
    from_body = sealed(sender.public_raw, text)
    return Letter(recipient, to_body, sender.sign(to_body), from_body, sender.sign(from_body))


def sealed(recipient_raw: bytes, text: bytes, nonce: bytes | None = None, ephemeral: bytes | None = None) -> bytes:
    """``text`` for the holder of a public key alone. Nonce and ephemeral secret are fresh unless given."""
    nonce = nonce or random_bytes(_NONCE_BYTES)
    secret = PrivateKey(ephemeral or random_bytes(_KEY_BYTES))
    try:
        public = VerifyKey(recipient_raw).to_curve25519_public_key()
    except (CryptoError, RuntimeError) as error:
        raise InvalidArgument("nothing can be sealed for this public key") from error
    return nonce + bytes(secret.public_key) + Box(secret, public).encrypt(text, nonce).ciphertext


def opened(recipient: Identity, body: bytes) -> bytes:
    """The text of a body sealed for ``recipient``. Raises Corrupt when it was changed, or sealed for another."""
    head = _NONCE_BYTES + _KEY_BYTES
    try:
        box = Box(SigningKey(recipient.seed).to_curve25519_private_key(), PublicKey(body[_NONCE_BYTES:head]))
        return box.decrypt(body[head:], body[:_NONCE_BYTES])
    except (CryptoError, ValueError, TypeError) as error:
        raise Corrupt("the letter cannot be opened: it was damaged, or sealed for another key") from error
