"""The blob format of private buckets, against vectors made by another implementation."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.hub.trees.crypt import (
    DAMAGED,
    OVERHEAD_BYTES,
    decrypt,
    decrypt_stream,
    encrypt,
    encrypt_stream,
    key_text,
    new_key,
)

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "hub-auth.json").read_text())["dcrypto"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["plaintext_length"]))
def test_vectors(vector: dict[str, Any]) -> None:
    """Private buckets could not be read by other implementations, nor theirs here."""
    key, iv = bytes.fromhex(vector["key_hex"]), bytes.fromhex(vector["iv_hex"])
    plain = bytes(index % 251 for index in range(vector["plaintext_length"]))
    blob = encrypt(plain, key, iv)
    assert len(blob) == vector["blob_length"]
    assert hashlib.sha256(blob).hexdigest() == vector["blob_sha256"]
    if "blob_hex" in vector:
        assert blob.hex() == vector["blob_hex"]
    assert decrypt(blob, key) == plain
    assert key_text(key) == vector["key_base64"]


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=6), st.lists(st.integers(0, 400), max_size=6))
def test_how_it_is_cut_makes_no_difference(plain: bytes, cuts: list[int], blob_cuts: list[int]) -> None:
    """A file would decrypt to other bytes, depending on how the network cut it."""
    key = bytes(range(64))
    blob = b"".join(encrypt_stream(pieces(plain, cuts), key, bytes(16)))
    assert blob == encrypt(plain, key, bytes(16))
    assert b"".join(decrypt_stream(lambda: pieces(blob, blob_cuts), len(blob), key)) == plain


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:stop] for start, stop in itertools.pairwise(at)] or [b""]


def test_every_changed_byte_is_noticed() -> None:
    """A changed byte on the disk would decrypt to wrong content without an error."""
    key = new_key()
    blob = encrypt(b"some secret", key)
    for index in range(len(blob)):
        changed = bytearray(blob)
        changed[index] ^= 1
        with pytest.raises(Corrupt):
            decrypt(bytes(changed), key)


def test_wrong_key_and_cut_blobs() -> None:
    """A wrong key or a cut blob would give garbage instead of an error."""
    key = new_key()
    blob = encrypt(b"some secret", key)
    with pytest.raises(Corrupt, match=DAMAGED):
        decrypt(blob, new_key())
    for length in (0, 3, OVERHEAD_BYTES - 1, len(blob) - 1):
        with pytest.raises(Corrupt):
            decrypt(blob[:length], key)
    with pytest.raises(InvalidArgument):
        encrypt(b"", key[:32])


def test_the_same_plaintext_never_looks_the_same() -> None:
    """Who reads the Hub's disk could see which contents are equal."""
    key = new_key()
    assert encrypt(b"x", key) != encrypt(b"x", key)


def test_nothing_is_released_before_the_mac_was_checked() -> None:
    """A client would be given forged bytes before the error."""
    key = new_key()
    blob = encrypt(b"a" * 1000, key)
    broken = blob[:-1] + bytes([blob[-1] ^ 1])
    got = []
    with pytest.raises(Corrupt):
        for piece in decrypt_stream(lambda: (broken[:500], broken[500:]), len(broken), key):
            got.append(piece)
    assert got == []
