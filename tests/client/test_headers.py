"""Signatures, headers, identities and thread IDs against vectors that the JavaScript libraries made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bucketfs.client import Credentials
from bucketfs.client.headers import metadata
from bucketfs.client.mail import letter, opened, sealed
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.keys import Identity, thread_from_text, thread_text, verify_signature

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/hub-auth.json").read_text())
NOW = datetime(2029, 12, 31, 23, 0, 0, 0, UTC)


def test_headers_are_those_of_a_javascript_context() -> None:
    """A Textile Hub reads our headers as those of its own client."""
    headers = dict(VECTORS["context_headers"]["headers"])
    del headers["host"]  # A leftover that a server must ignore.
    thread = thread_from_text(VECTORS["thread_ids"][0]["string"])
    headers["x-textile-thread"] = thread_text(thread)
    secret = VECTORS["api_sig"][0]["secret"]
    ours = Credentials(api_key=headers["x-textile-api-key"], api_secret=secret, session="s", org="o", token="tok")
    assert dict(metadata(ours, NOW, thread, "buckets")) == headers


def test_empty_fields_are_not_sent() -> None:
    """A credential that is not set is no credential, and not an empty one that is refused."""
    assert metadata(Credentials(api_key="k"), NOW) == [("x-textile-api-key", "k")]
    assert metadata(Credentials(), NOW) == []


def test_a_signature_made_elsewhere_is_passed_on() -> None:
    """An application can sign for its user without giving away the secret."""
    headers = dict(metadata(Credentials(api_key="k", api_sig="bsig", api_sig_msg="date"), NOW))
    assert (headers["x-textile-api-sig"], headers["x-textile-api-sig-msg"]) == ("bsig", "date")


def test_secrets_are_not_shown() -> None:
    """Credentials in a log show no secret."""
    identity = VECTORS["identities"][0]["private_key"]
    shown = repr(Credentials("key", "SECRET", "SECRET", "org", "SECRET", identity, "SECRET"))
    assert "SECRET" not in shown
    assert identity not in shown
    assert "key" in shown


@pytest.mark.parametrize("vector", VECTORS["mail"], ids=lambda vector: vector["plaintext"] or "empty")
def test_mail(vector: dict[str, str]) -> None:
    """Letters are sealed and signed as other clients do."""
    sender, recipient = (Identity.from_text(vector[key]) for key in ("from_private_key", "to_private_key"))
    text = vector["plaintext"].encode()
    nonce, ephemeral = bytes.fromhex(vector["nonce_hex"]), bytes.fromhex(vector["ephemeral_secret_hex"])
    for side, whose in (("to", recipient), ("from", sender)):
        body = bytes.fromhex(vector[f"{side}_body_hex"])
        assert sealed(whose.public_raw, text, nonce, ephemeral) == body
        assert opened(whose, body) == text
        assert sender.sign(body).hex() == vector[f"{side}_signature_hex"]


def test_a_letter_is_for_its_two_ends() -> None:
    """Only the recipient and the sender can open a letter, and a changed one not at all."""
    sender, recipient, stranger = Identity.generate(), Identity.generate(), Identity.generate()
    sent = letter(sender, recipient.public_key, b"howdy")
    assert opened(recipient, sent.to_body) == opened(sender, sent.from_body) == b"howdy"
    assert verify_signature(sender.public_raw, sent.to_body, sent.to_signature)
    for body in (sent.to_body, sent.to_body[:-1], b"", bytes(72)):
        with pytest.raises(Corrupt):
            opened(stranger, body)
    with pytest.raises(InvalidArgument):
        letter(sender, "nobody", b"")
