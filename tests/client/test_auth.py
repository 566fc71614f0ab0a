"""Signatures, headers, identities and thread IDs against vectors that the JavaScript libraries made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bucketfs.client import (
    Credentials,
    Identity,
    api_signature,
    letter,
    metadata,
    opened,
    parse_thread,
    public_key_text,
    public_raw_of_text,
    sealed,
    signature_holds,
    signature_message,
    thread_from_text,
    thread_of_random,
    thread_text,
    token_subject,
)
from bucketfs.dag import multibase_encode
from bucketfs.errors import Corrupt, InvalidArgument

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/hub-auth.json").read_text())
NOW = datetime(2029, 12, 31, 23, 0, 0, 0, UTC)


@pytest.mark.parametrize("vector", VECTORS["api_sig"], ids=lambda vector: vector["message"])
def test_api_signature(vector: dict[str, str]) -> None:
    assert api_signature(vector["secret"], vector["message"]) == vector["signature"]


def test_signature_message_is_the_form_of_javascript() -> None:
    assert signature_message(NOW) == "2030-01-01T00:00:00.000Z"
    assert signature_message(NOW + timedelta(milliseconds=7, microseconds=999)) == "2030-01-01T00:00:00.007Z"


def test_headers_are_those_of_a_javascript_context() -> None:
    headers = dict(VECTORS["context_headers"]["headers"])
    del headers["host"]  # A leftover that a server must ignore.
    thread = thread_from_text(VECTORS["thread_ids"][0]["string"])
    headers["x-textile-thread"] = thread_text(thread)
    secret = VECTORS["api_sig"][0]["secret"]
    ours = Credentials(api_key=headers["x-textile-api-key"], api_secret=secret, session="s", org="o", token="tok")
    assert dict(metadata(ours, NOW, thread, "buckets")) == headers


def test_empty_fields_are_not_sent() -> None:
    assert metadata(Credentials(api_key="k"), NOW) == [("x-textile-api-key", "k")]
    assert metadata(Credentials(), NOW) == []


def test_a_signature_made_elsewhere_is_passed_on() -> None:
    headers = dict(metadata(Credentials(api_key="k", api_sig="bsig", api_sig_msg="date"), NOW))
    assert (headers["x-textile-api-sig"], headers["x-textile-api-sig-msg"]) == ("bsig", "date")


def test_secrets_are_not_shown() -> None:
    identity = VECTORS["identities"][0]["private_key"]
    shown = repr(Credentials("key", "SECRET", "SECRET", "org", "SECRET", identity, "SECRET"))
    assert "SECRET" not in shown
    assert identity not in shown
    assert "key" in shown
    with pytest.raises(InvalidArgument) as caught:
        api_signature("!SECRET!", "")
    assert "SECRET" not in str(caught.value)
    assert identity[10:] not in repr(Identity.from_text(identity))


@pytest.mark.parametrize("vector", VECTORS["identities"], ids=lambda vector: vector["name"])
def test_identity(vector: dict[str, str]) -> None:
    identity = Identity(bytes.fromhex(vector["seed_hex"]))
    assert identity == Identity.from_text(vector["private_key"])
    assert identity == Identity.from_bytes(bytes.fromhex(vector["private_key_bytes_hex"]))
    assert identity.private_key_text == vector["private_key"]
    assert identity.public_key_text == vector["public_key"] == public_key_text(identity.public_raw)
    assert public_raw_of_text(vector["public_key"]).hex() == vector["raw_public_key_hex"]
    challenge = bytes.fromhex(vector["challenge_hex"])
    signature = identity.sign(challenge)
    assert signature.hex() == vector["challenge_signature_hex"]
    assert signature_holds(identity.public_raw, challenge, signature)
    assert not signature_holds(identity.public_raw, challenge[:-1], signature)
    assert not signature_holds(identity.public_raw, challenge, signature[:-1])


def test_identity_in_the_old_form() -> None:
    vector = VECTORS["legacy_private_key"]
    identity = Identity.from_text(vector["private_key"])
    assert identity.seed.hex() == vector["seed_hex"]
    assert identity.private_key_text == VECTORS["identities"][0]["private_key"]


def test_identities_that_are_none() -> None:
    good = Identity.generate()
    other = bytes(68 - 32) + good.public_raw
    for text in ("", "b", "bbaareq", good.public_key_text, multibase_encode(other)):
        with pytest.raises(InvalidArgument):
            Identity.from_text(text)
    # The public half of another key: a damaged key, which would sign what nobody can check.
    mixed = Identity.generate()
    data = bytes([8, 1, 18, 64]) + good.seed + mixed.public_raw
    with pytest.raises(InvalidArgument):
        Identity.from_bytes(data)


@pytest.mark.parametrize("vector", VECTORS["jwt"])
def test_token_subject(vector: dict[str, str]) -> None:
    assert token_subject(vector["token"]) == vector["subject_public_key"]


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.", "e30.W10.x", "e30.bnVsbA.x"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(InvalidArgument):
        token_subject(token)


@pytest.mark.parametrize("vector", VECTORS["thread_ids"], ids=lambda vector: vector["string"])
def test_thread_ids(vector: dict[str, str]) -> None:
    thread = parse_thread(bytes.fromhex(vector["bytes_hex"]))
    assert thread_text(thread) == vector["string"]
    for form in ("string", "string_base58btc", "string_base16"):
        if form in vector:
            assert thread_from_text(vector[form]) == thread


@pytest.mark.parametrize("vector", VECTORS["invalid_thread_ids"], ids=lambda vector: vector["why"])
def test_thread_ids_that_are_none(vector: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        if "string" in vector:
            thread_from_text(vector["string"])
        else:
            parse_thread(bytes.fromhex(vector["bytes_hex"]))


def test_new_thread_ids() -> None:
    thread = thread_of_random(bytes(32))
    assert len(thread) == VECTORS["key_lengths"]["thread_id"]["bytes"]
    assert thread_text(thread).startswith("bafk")


@pytest.mark.parametrize("vector", VECTORS["mail"], ids=lambda vector: vector["plaintext"] or "empty")
def test_mail(vector: dict[str, str]) -> None:
    sender, recipient = (Identity.from_text(vector[key]) for key in ("from_private_key", "to_private_key"))
    text = vector["plaintext"].encode()
    nonce, ephemeral = bytes.fromhex(vector["nonce_hex"]), bytes.fromhex(vector["ephemeral_secret_hex"])
    for side, whose in (("to", recipient), ("from", sender)):
        body = bytes.fromhex(vector[f"{side}_body_hex"])
        assert sealed(whose.public_raw, text, nonce, ephemeral) == body
        assert opened(whose, body) == text
        assert sender.sign(body).hex() == vector[f"{side}_signature_hex"]


def test_a_letter_is_for_its_two_ends() -> None:
    sender, recipient, stranger = Identity.generate(), Identity.generate(), Identity.generate()
    sent = letter(sender, recipient.public_key_text, b"howdy")
    assert opened(recipient, sent.to_body) == opened(sender, sent.from_body) == b"howdy"
    assert signature_holds(sender.public_raw, sent.to_body, sent.to_signature)
    for body in (sent.to_body, sent.to_body[:-1], b"", bytes(72)):
        with pytest.raises(Corrupt):
            opened(stranger, body)
    with pytest.raises(InvalidArgument):
        letter(sender, "nobody", b"")
