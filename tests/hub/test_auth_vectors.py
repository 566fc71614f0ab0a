"""Signatures, identities, challenges, tokens and identifiers against the vectors of other implementations."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.hub import ids
from bucketfs.hub.identity import (
    Identity,
    TokenForged,
    TokenMalformed,
    make_token,
    parse_public_key,
    public_key_bytes,
    public_key_text,
    token_subject,
    verify_signature,
)
from bucketfs.hub.signatures import parse_date_ns, signature_holds, signature_of

SECOND = 10**9


def test_api_signatures(vectors: dict[str, Any]) -> None:
    for vector in vectors["api_sig"]:
        assert multibase_decode(vector["secret"]).hex() == vector["secret_hex"]
        signature = signature_of(vector["secret"], vector["message"])
        assert signature.hex() == vector["signature_hex"]
        assert multibase_encode(signature) == vector["signature"]
        moment = parse_date_ns(vector["message"])
        assert signature_holds(vector["secret"], vector["message"], signature, moment)
        assert not signature_holds(vector["secret"], vector["message"], signature, moment + 1)
        assert not signature_holds(vector["secret"], vector["message"], signature[:-1] + b"\0", moment)
        assert not signature_holds(vector["secret"], vector["message"], b"", moment)
        if vector.get("expired"):
            assert not signature_holds(vector["secret"], vector["message"], signature, time.time_ns())


def test_only_the_text_of_the_date_counts(vectors: dict[str, Any]) -> None:
    secret = vectors["api_sig"][0]["secret"]
    one, other = "2030-01-01T00:00:00Z", "2030-01-01T00:00:00.000Z"
    assert parse_date_ns(one) == parse_date_ns(other)
    assert not signature_holds(secret, one, signature_of(secret, other), 0)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T17:00:00-07:00", 0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:01.000000000999Z", 1),
        ("0001-01-01T00:00:00Z", -62135596800),
    ],
)
def test_dates(text: str, expected_s: float) -> None:
    assert parse_date_ns(text) == int(expected_s * SECOND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2030-01-01",
        "2030-01-01 00:00:00Z",
        "2030-01-01T00:00:00",
        "2030-01-01T00:00:00z",
        "2030-13-01T00:00:00Z",
        "2030-01-01T25:00:00Z",
        "2030-01-01T00:00:00.Z",
        "2030-01-01T00:00:00+0200",
        "2030-01-01T00:00:00Z\n",
        "٢٠٣٠-01-01T00:00:00Z",
        "2030-01-01T00:00:00+99:99",
    ],
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_date_ns(text)


def test_identities(vectors: dict[str, Any]) -> None:
    for vector in vectors["identities"]:
        identity = Identity(bytes.fromhex(vector["seed_hex"]))
        assert identity.private_key == vector["private_key"]
        assert identity.private_bytes.hex() == vector["private_key_bytes_hex"]
        assert identity.public_key == vector["public_key"]
        assert identity.public_bytes.hex() == vector["public_key_bytes_hex"]
        assert Identity.from_text(vector["private_key"]) == identity
        assert parse_public_key(vector["public_key"]).hex() == vector["raw_public_key_hex"]
        assert public_key_bytes(vector["public_key"]) == identity.public_bytes
        challenge = bytes.fromhex(vector["challenge_hex"])
        signature = identity.sign(challenge)
        assert signature.hex() == vector["challenge_signature_hex"]
        raw = parse_public_key(vector["public_key"])
        assert verify_signature(raw, challenge, signature)
        assert not verify_signature(raw, challenge + b"x", signature)
        assert not verify_signature(raw, challenge, signature[:63])
        assert vector["seed_hex"] not in repr(identity)


def test_the_old_form_of_private_keys_is_read(vectors: dict[str, Any]) -> None:
    vector = vectors["legacy_private_key"]
    assert Identity.from_text(vector["private_key"]).seed.hex() == vector["seed_hex"]
    data = bytes.fromhex(vector["private_key_bytes_hex"])
    for spoilt in (
        data[:-1] + b"\0",
        data[:40] + b"\0" + data[41:],
        data[:-1],
        b"",
        b"\x08\x01\x12\x40" + data[4:67] + b"\0",
    ):
        with pytest.raises(InvalidArgument):
            Identity.from_bytes(spoilt)


def test_public_keys_have_one_spelling(vectors: dict[str, Any]) -> None:
    vector = vectors["identities"][0]
    other = multibase_encode(bytes.fromhex(vector["public_key_bytes_hex"]), "z")
    assert public_key_text(parse_public_key(other)) == vector["public_key"]
    for spoilt in ("", "b", "x" + vector["public_key"], vector["public_key"][:-2], vector["private_key"]):
        with pytest.raises(InvalidArgument):
            parse_public_key(spoilt)


def test_tokens(vectors: dict[str, Any]) -> None:
    for vector in vectors["jwt"]:
        host = Identity.from_text(vector["issuer_private_key"])
        assert make_token(host, vector["subject_public_key"], vector["iat"] * SECOND + 5) == vector["token"]
        assert token_subject(host, vector["token"]) == vector["subject_public_key"]
        with pytest.raises(TokenForged):
            token_subject(Identity.generate(), vector["token"])


def test_a_token_that_names_another_algorithm_is_forged(vectors: dict[str, Any]) -> None:
    host = Identity.from_text(vectors["jwt"][0]["issuer_private_key"])
    claims = base64.urlsafe_b64encode(vectors["jwt"][0]["claims"].encode()).rstrip(b"=").decode()
    for algorithm in ("none", "HS256", "EdDSA"):
        header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
        signature = base64.urlsafe_b64encode(host.sign(f"{header}.{claims}".encode())).rstrip(b"=").decode()
        for tail in (signature, ""):
            with pytest.raises(TokenForged):
                token_subject(host, f"{header}.{claims}.{tail}")


@given(
    st.one_of(st.text(max_size=60), st.text("ab.=-_{}9", max_size=60), st.binary(max_size=40).map(lambda b: f"a.{b!r}.c"))
)
def test_no_text_breaks_the_token_reader(text: str) -> None:
    with pytest.raises((TokenMalformed, TokenForged)):
        token_subject(Identity(bytes(32)), text)


def test_thread_ids(vectors: dict[str, Any]) -> None:
    for vector in vectors["thread_ids"]:
        thread = ids.parse_thread_id(bytes.fromhex(vector["bytes_hex"]))
        assert ids.thread_id_text(thread) == vector["string"]
        for form in ("string", "string_base58btc", "string_base16"):
            assert ids.thread_id_from_text(vector[form]) == thread
    for vector in vectors["invalid_thread_ids"]:
        with pytest.raises(InvalidArgument):
            if "string" in vector:
                ids.thread_id_from_text(vector["string"])
            else:
                ids.parse_thread_id(bytes.fromhex(vector["bytes_hex"]))


def test_thread_keys_are_multibase(vectors: dict[str, Any]) -> None:
    for vector in vectors["thread_keys"]:
        assert multibase_encode(bytes.fromhex(vector["bytes_hex"])) == vector["string"]


def test_bucket_keys(vectors: dict[str, Any]) -> None:
    for vector, text in zip(vectors["bucket_keys"], (b"one", b"two"), strict=True):
        assert ids.bucket_key_of(text) == vector["bucket_key"]
    fresh = ids.fresh_bucket_key()
    assert len(fresh) == 59
    assert fresh.startswith("bafzbei")
    assert fresh != ids.fresh_bucket_key()


def test_lengths_of_texts(vectors: dict[str, Any]) -> None:
    lengths = vectors["key_lengths"]
    for name, size in (
        ("api_key", ids.API_KEY_BYTES),
        ("api_secret", ids.API_SECRET_BYTES),
        ("session", ids.SESSION_BYTES),
        ("invite_token", ids.SESSION_BYTES),
    ):
        assert size == lengths[name]["bytes"]
        assert len(ids.random_text(size)) == lengths[name]["chars"]
    identity = Identity.generate()
    assert len(identity.public_key) == lengths["public_key"]["chars"]
    assert len(identity.private_key) == lengths["private_key"]["chars"]
