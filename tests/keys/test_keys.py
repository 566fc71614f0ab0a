"""Identities, API signatures, tokens and identifiers, against vectors that the JavaScript and Go libraries made."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs import keys
from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.keys import (
    Identity,
    TokenForged,
    TokenMalformed,
    api_signature,
    claimed_subject,
    make_link_token,
    make_token,
    parse_date_ns,
    parse_public_key,
    parse_thread,
    public_key_bytes,
    public_key_of,
    public_key_text,
    signature_matches,
    signature_message,
    thread_from_text,
    thread_text,
    token_subject,
    verify_signature,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/hub-auth.json").read_text())
SECOND = 10**9


# API signatures


@pytest.mark.parametrize("vector", VECTORS["api_sig"], ids=lambda vector: vector["message"])
def test_api_signatures_are_those_of_other_clients(vector: dict[str, Any]) -> None:
    """A key made with another client signs calls here, and the Hub takes signatures that other clients make."""
    secret, message = vector["secret"], vector["message"]
    assert multibase_decode(secret).hex() == vector["secret_hex"]
    signature = api_signature(secret, message)
    assert (signature.hex(), multibase_encode(signature)) == (vector["signature_hex"], vector["signature"])
    assert signature_matches(secret, message, signature)
    for other in (signature[:-1] + b"\0", b""):
        assert not signature_matches(secret, message, other)


def test_only_the_text_of_the_date_counts() -> None:
    """A signature cannot be carried over to another spelling of its date."""
    secret = VECTORS["api_sig"][0]["secret"]
    one, other = "2030-01-01T00:00:00Z", "2030-01-01T00:00:00.000Z"
    assert parse_date_ns(one) == parse_date_ns(other)
    assert not signature_matches(secret, one, api_signature(secret, other))


def test_the_date_to_sign_has_the_form_of_javascript() -> None:
    """Hubs read the date that is signed, with milliseconds, an hour ahead."""
    now = datetime(2029, 12, 31, 23, 0, 0, 0, UTC)
    assert signature_message(now) == "2030-01-01T00:00:00.000Z"
    assert signature_message(now + timedelta(milliseconds=7, microseconds=999)) == "2030-01-01T00:00:00.007Z"


def test_a_secret_that_is_none_is_not_repeated() -> None:
    """A mistyped secret does not get into a terminal or a log."""
    with pytest.raises(InvalidArgument) as caught:
        api_signature("!SECRET!", "")
    assert "SECRET" not in str(caught.value)


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
    """Every form of an RFC 3339 date that a client may sign is read to the moment it means."""
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
    """A text that is no date never counts as a signature's date."""
    with pytest.raises(InvalidArgument):
        parse_date_ns(text)


# Identities


@pytest.mark.parametrize("vector", VECTORS["identities"], ids=lambda vector: vector["name"])
def test_identities_are_those_of_other_clients(vector: dict[str, str]) -> None:
    """A user who comes with a key of another client is the same user here, and signs the same."""
    identity = Identity(bytes.fromhex(vector["seed_hex"]))
    assert identity == Identity.from_text(vector["private_key"])
    assert identity == Identity.from_bytes(bytes.fromhex(vector["private_key_bytes_hex"]))
    assert (identity.private_key, identity.private_bytes.hex()) == (vector["private_key"], vector["private_key_bytes_hex"])
    assert (identity.public_key, identity.public_bytes.hex()) == (vector["public_key"], vector["public_key_bytes_hex"])
    assert parse_public_key(vector["public_key"]).hex() == vector["raw_public_key_hex"] == identity.public_raw.hex()
    assert public_key_bytes(vector["public_key"]) == identity.public_bytes
    assert public_key_text(identity.public_raw) == public_key_of(identity.public_bytes) == vector["public_key"]
    challenge = bytes.fromhex(vector["challenge_hex"])
    signature = identity.sign(challenge)
    assert signature.hex() == vector["challenge_signature_hex"]
    assert verify_signature(identity.public_raw, challenge, signature)
    for message, signed in ((challenge + b"x", signature), (challenge[:-1], signature), (challenge, signature[:-1])):
        assert not verify_signature(identity.public_raw, message, signed)


def test_an_identity_shows_its_public_half_only() -> None:
    """A private key does not get into a log by way of ``repr``."""
    vector = VECTORS["identities"][0]
    shown = repr(Identity.from_text(vector["private_key"]))
    assert vector["public_key"] in shown
    assert vector["seed_hex"] not in shown and vector["private_key"][10:] not in shown


def test_the_old_form_of_private_keys_is_read() -> None:
    """A private key from before 2020 still opens its owner's buckets."""
    vector = VECTORS["legacy_private_key"]
    identity = Identity.from_text(vector["private_key"])
    assert identity.seed.hex() == vector["seed_hex"]
    assert identity.private_key == VECTORS["identities"][0]["private_key"]


def test_damaged_private_keys_are_refused() -> None:
    """A damaged key is refused, not taken for another user, or for one whose signatures no Hub can check."""
    old = bytes.fromhex(VECTORS["legacy_private_key"]["private_key_bytes_hex"])
    good, other = Identity.generate(), Identity.generate()
    for data in (
        old[:-1] + b"\0",
        old[:40] + b"\0" + old[41:],
        old[:-1],
        b"",
        bytes(68),
        good.private_bytes[:67] + b"\0",
        good.private_bytes[:36] + other.public_raw,
    ):
        with pytest.raises(InvalidArgument):
            Identity.from_bytes(data)
    for text in ("", "b", "bbaareq", good.public_key, multibase_encode(bytes(68))):
        with pytest.raises(InvalidArgument):
            Identity.from_text(text)
    with pytest.raises(InvalidArgument, match="32 bytes"):
        Identity(bytes(31))


def test_public_keys_have_one_spelling() -> None:
    """Roles and owners are compared as texts, so a key given in another multibase is spelled anew."""
    vector = VECTORS["identities"][0]
    other = multibase_encode(bytes.fromhex(vector["public_key_bytes_hex"]), "z")
    assert public_key_text(parse_public_key(other)) == vector["public_key"]
    for spoilt in ("", "b", "x" + vector["public_key"], vector["public_key"][:-2], vector["private_key"]):
        with pytest.raises(InvalidArgument):
            parse_public_key(spoilt)
    for data in (b"", USER.public_raw, USER.private_bytes, USER.public_bytes[:-1]):
        with pytest.raises(InvalidArgument):
            public_key_of(data)


# Tokens

HOST = Identity(bytes(range(32)))
USER, OWNER = Identity(bytes([7] * 32)), Identity(bytes([8] * 32)).public_key
HEADER = b'{"alg":"Ed25519","typ":"JWT"}'
CLAIMS = json.dumps({"aud": OWNER, "sub": USER.public_key}).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, claims: bytes, host: Identity = HOST) -> str:
    """A token as ``host`` would sign it, whatever stands in it."""
    body = f"{b64(header)}.{b64(claims)}"
    return f"{body}.{b64(host.sign(body.encode()))}"


@pytest.mark.parametrize("vector", VECTORS["jwt"])
def test_tokens_are_those_of_other_hubs(vector: dict[str, Any]) -> None:
    """Tokens are written to the letter as go-threads does, so each one that a user holds stays good."""
    host = Identity.from_text(vector["issuer_private_key"])
    assert make_token(host, vector["subject_public_key"], vector["iat"] * SECOND + 5) == vector["token"]
    assert token_subject(host, vector["token"]) == vector["subject_public_key"] == claimed_subject(vector["token"])
    with pytest.raises(TokenForged):
        token_subject(Identity.generate(), vector["token"])


def test_a_token_is_good_beside_the_keys_of_one_owner() -> None:
    """The token of a user of one owner does not open the buckets of another, and that of a link opens none."""
    token = make_token(HOST, USER.public_key, 0, OWNER)
    assert token_subject(HOST, token, OWNER) == USER.public_key
    for owner in ("", USER.public_key):
        with pytest.raises(TokenForged):
            token_subject(HOST, token, owner)
    for owner in ("", OWNER):
        with pytest.raises(TokenForged):
            token_subject(HOST, make_link_token(HOST, USER.public_key, "bucket", "path", 0), owner)


@pytest.mark.parametrize("tail", ["own", "empty"])
@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "Ed448", "RS256", 7, None])
def test_a_token_that_names_another_algorithm_is_forged(algorithm: object, tail: str) -> None:
    """A caller cannot choose how its token is checked."""
    token = signed(json.dumps({"alg": algorithm}).encode(), CLAIMS)
    with pytest.raises(TokenForged):
        token_subject(HOST, token if tail == "own" else token.rpartition(".")[0] + ".", OWNER)


GOOD = signed(HEADER, CLAIMS)


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("", TokenMalformed),
        ("a.b.c", TokenMalformed),
        (GOOD[:-1], TokenMalformed),
        (GOOD + "=", TokenMalformed),
        (GOOD + "é", TokenMalformed),
        (GOOD + ".x", TokenMalformed),
        (GOOD + "A" * 8192, TokenMalformed),
        (signed(HEADER, b"[]"), TokenMalformed),
        (signed(HEADER, b"{}"), TokenMalformed),
        (signed(HEADER, b'{"sub":7}'), TokenMalformed),
        (signed(HEADER, b"[" * 3000), TokenMalformed),
        (signed(b"[]", CLAIMS), TokenMalformed),
        (signed(b'"alg"', CLAIMS), TokenMalformed),
        (signed(b'{"typ":"JWT"}', CLAIMS), TokenMalformed),
        (signed(b"[" * 300, CLAIMS), TokenMalformed),
        (signed(HEADER, CLAIMS, USER), TokenForged),
        (GOOD[:-2], TokenForged),
        (GOOD.rpartition(".")[0] + ".", TokenForged),
        (signed(HEADER, b'{"sub":"nobody"}'), TokenForged),
        (signed(HEADER, json.dumps({"aud": OWNER, "sub": "nobody"}).encode()), InvalidArgument),
    ],
)
def test_how_bad_tokens_are_told_apart(token: str, error: type[Exception]) -> None:
    """A token that was copied badly is answered in other words than one that another Hub gave."""
    assert token_subject(HOST, GOOD, OWNER) == USER.public_key
    with pytest.raises(InvalidArgument) as caught:
        token_subject(HOST, token, OWNER)
    assert type(caught.value) is error


@given(
    st.one_of(st.text(max_size=60), st.text("ab.=-_{}9", max_size=60), st.binary(max_size=40).map(lambda b: f"a.{b!r}.c"))
)
def test_no_text_breaks_the_token_reader(text: str) -> None:
    """What a caller sends as a token cannot stop a call in any way but a refusal."""
    with pytest.raises((TokenMalformed, TokenForged)):
        token_subject(Identity(bytes(32)), text)


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.", "e30.W10.x", "e30.bnVsbA.x", "e30.eyJzdWIiOjd9.x"])
def test_a_claim_of_no_token(token: str) -> None:
    """A text in the place of a token is refused here, before any Hub is asked."""
    with pytest.raises(InvalidArgument):
        claimed_subject(token)


# Identifiers


@pytest.mark.parametrize("vector", VECTORS["thread_ids"], ids=lambda vector: vector["string"])
def test_thread_ids_are_read_in_every_multibase(vector: dict[str, str]) -> None:
    """A thread is found under each spelling that clients give its ID."""
    thread = parse_thread(bytes.fromhex(vector["bytes_hex"]))
    assert thread_text(thread) == vector["string"]
    for form in ("string", "string_base58btc", "string_base16"):
        if form in vector:
            assert thread_from_text(vector[form]) == thread


@pytest.mark.parametrize("vector", VECTORS["invalid_thread_ids"], ids=lambda vector: vector["why"])
def test_thread_ids_that_are_none(vector: dict[str, str]) -> None:
    """What is no thread ID is refused where it comes in, and is not looked for in the database."""
    with pytest.raises(InvalidArgument):
        if "string" in vector:
            thread_from_text(vector["string"])
        else:
            parse_thread(bytes.fromhex(vector["bytes_hex"]))


def test_thread_keys_are_multibase() -> None:
    """The keys of a thread are shown as other clients show them."""
    for vector in VECTORS["thread_keys"]:
        assert multibase_encode(bytes.fromhex(vector["bytes_hex"])) == vector["string"]


def test_bucket_keys() -> None:
    """A bucket's key is an IPNS name, which other tools can resolve; no two buckets get the same."""
    for vector, text in zip(VECTORS["bucket_keys"], (b"one", b"two"), strict=True):
        assert keys.bucket_key_of(text) == vector["bucket_key"]
    fresh = keys.fresh_bucket_key()
    assert len(fresh) == 59
    assert fresh.startswith("bafzbei")
    assert fresh != keys.fresh_bucket_key()


def test_lengths_of_texts() -> None:
    """Clients know the lengths of keys, secrets and sessions by heart."""
    lengths = VECTORS["key_lengths"]
    for name, size in (
        ("api_key", keys.API_KEY_BYTES),
        ("api_secret", keys.API_SECRET_BYTES),
        ("session", keys.SESSION_BYTES),
        ("invite_token", keys.SESSION_BYTES),
    ):
        assert size == lengths[name]["bytes"]
        assert len(keys.random_text(size)) == lengths[name]["chars"]
    identity, thread = Identity.generate(), keys.fresh_thread()
    assert len(identity.public_key) == lengths["public_key"]["chars"]
    assert len(identity.private_key) == lengths["private_key"]["chars"]
    assert len(thread) == lengths["thread_id"]["bytes"]
    assert parse_thread(thread) == thread and thread_text(thread).startswith("bafk")
