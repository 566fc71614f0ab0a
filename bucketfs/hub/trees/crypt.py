"""Blobs of private buckets: AES-256-CTR under HMAC-SHA512, in the layout of textileio/dcrypto.

::

    version[4] = 0, little endian    iv[16]    ciphertext[n]    mac[64] = HMAC-SHA512(iv ciphertext)

The IV is the whole first counter block, counted up big-endian. A key is 64 bytes: 32 for AES, 32 for the MAC. Nothing is
released before the MAC over the whole blob was checked. Pure but for the randomness of keys and IVs.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from bucketfs.errors import Corrupt, InvalidArgument

KEY_BYTES = 64
HEAD_BYTES = 4 + 16
MAC_BYTES = 64
OVERHEAD_BYTES = HEAD_BYTES + MAC_BYTES
_VERSION = bytes(4)

DAMAGED = "message corrupt or incorrect password"


def new_key() -> bytes:
    """A fresh key from the system's randomness."""
    return secrets.token_bytes(KEY_BYTES)


def key_text(key: bytes | None) -> str:
    """A key as the protocol spells it: standard base64 with padding, ``""`` for none."""
    return base64.b64encode(key).decode() if key else ""


def encrypt(plain: bytes, key: bytes, iv: bytes | None = None) -> bytes:
    """The blob of ``plain``; 84 bytes longer. ``iv`` only for tests: it must never repeat under one key."""
    return b"".join(encrypt_stream((plain,), key, iv))


def decrypt(blob: bytes, key: bytes) -> bytes:
    """The plaintext of a blob. Raises Corrupt: wrong key, changed bytes, too short, another version."""
    return b"".join(decrypt_stream(lambda: (blob,), len(blob), key))


class Encryptor:
    """Makes one blob from plaintext that comes in pieces: ``head``, then every ``update``, then ``finish``."""

    def __init__(self, key: bytes, iv: bytes | None = None) -> None:
        iv = secrets.token_bytes(16) if iv is None else iv
        self.head = _VERSION + iv
        self._cipher = _cipher(key, iv).encryptor()
        self._mac = _mac(key)
        self._mac.update(iv)

    def update(self, plain: bytes) -> bytes:
        """The ciphertext of the next piece."""
        sealed = self._cipher.update(plain)
        self._mac.update(sealed)
        return sealed

    def finish(self) -> bytes:
        """The MAC, which ends the blob."""
        return self._mac.digest()


def encrypt_stream(pieces: Iterable[bytes], key: bytes, iv: bytes | None = None) -> Iterator[bytes]:
    """The blob of the pieces put together, itself in pieces, as they come."""
    encryptor = Encryptor(key, iv)
    yield encryptor.head
    for piece in pieces:
        yield encryptor.update(piece)
    yield encryptor.finish()


def decrypt_stream(read: Callable[[], Iterable[bytes]], blob_bytes: int, key: bytes) -> Iterator[bytes]:
    """The plaintext of a blob of ``blob_bytes`` bytes, in pieces.

    ``read`` gives the blob's pieces anew at each call. It is called twice, first to check the MAC and then to decrypt, so a
    blob of any size is never in memory as a whole and yet no unchecked byte gets out. Raises Corrupt before the first piece.
    """
    iv = _check(read(), blob_bytes, key)
    cipher = _cipher(key, iv).decryptor()
    for piece in cut(read(), HEAD_BYTES, blob_bytes - MAC_BYTES):
        yield cipher.update(piece)


def _check(pieces: Iterable[bytes], blob_bytes: int, key: bytes) -> bytes:
    """The IV of a blob whose version and MAC are right. Raises Corrupt."""
    if blob_bytes < OVERHEAD_BYTES:
        raise Corrupt(DAMAGED)
    mac = _mac(key)
    body_end = blob_bytes - MAC_BYTES
    at = 0
    head = claimed = b""
    for piece in pieces:
        if at < HEAD_BYTES:
            head += piece[: HEAD_BYTES - at]
        for covered in cut((piece,), 4 - at, body_end - at):
            mac.update(covered)
        if at + len(piece) > body_end:
            claimed += piece[max(body_end - at, 0) :]
        at += len(piece)
    if head[:4] != _VERSION:
        raise Corrupt("encrypted in an unknown version of the format")
    if at != blob_bytes or not hmac.compare_digest(mac.digest(), claimed):
        raise Corrupt(DAMAGED)
    return head[4:]


def cut(pieces: Iterable[bytes], start: int, stop: int) -> Iterator[bytes]:
    """The bytes [start, stop) of the pieces put together."""
    at = 0
    for piece in pieces:
        if at >= stop:
            return
        low, high = max(start - at, 0), min(stop - at, len(piece))
        if low < high:
            yield piece[low:high] if high - low < len(piece) else piece
        at += len(piece)


def _cipher(key: bytes, iv: bytes) -> Cipher[CTR]:
    return Cipher(AES(_checked(key)[:32]), CTR(iv))


def _mac(key: bytes) -> hmac.HMAC:
    return hmac.new(_checked(key)[32:], digestmod="sha512")


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise InvalidArgument(f"an encryption key has {KEY_BYTES} bytes, not {len(key)}")
    return key
