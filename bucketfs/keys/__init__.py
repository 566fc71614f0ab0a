"""Keys and names of the protocol, once for client and Hub: identities, API signatures, tokens, identifiers.

An *identity* is a user's ed25519 key pair; its public-key text is the user's name in roles and owners. An *API key* lets a program
act for an account, and a secure one signs each call with an HMAC over a date. A *token* is a Hub's signed word that its bearer is
a certain user. Texts are multibase everywhere; bytes are libp2p's protobufs for keys and binary CIDs for threads and roots.

This room does no I/O, and asks the system for nothing but random bytes. No error and no ``repr`` shows a secret.
"""

from bucketfs.keys.api_keys import (
    SIGNATURE_LIFETIME,
    KeyType,
    api_signature,
    parse_date_ns,
    signature_matches,
    signature_message,
)
from bucketfs.keys.identity import (
    Identity,
    parse_public_key,
    public_key_bytes,
    public_key_of,
    public_key_text,
    verify_signature,
)
from bucketfs.keys.ids import (
    API_KEY_BYTES,
    API_SECRET_BYTES,
    SESSION_BYTES,
    bucket_key_of,
    cid_of_root_path,
    fresh_bucket_key,
    fresh_thread,
    parse_thread,
    random_text,
    root_path,
    thread_from_text,
    thread_text,
)
from bucketfs.keys.tokens import (
    LINK_S,
    TokenExpired,
    TokenForged,
    TokenMalformed,
    TokenScope,
    claimed_subject,
    make_link_token,
    make_token,
    token_scope,
    token_subject,
)

__all__ = [
    "API_KEY_BYTES",
    "API_SECRET_BYTES",
    "LINK_S",
    "SESSION_BYTES",
    "SIGNATURE_LIFETIME",
    "Identity",
    "KeyType",
    "TokenExpired",
    "TokenForged",
    "TokenMalformed",
    "TokenScope",
    "api_signature",
    "bucket_key_of",
    "cid_of_root_path",
    "claimed_subject",
    "fresh_bucket_key",
    "fresh_thread",
    "make_link_token",
    "make_token",
    "parse_date_ns",
    "parse_public_key",
    "parse_thread",
    "public_key_bytes",
    "public_key_of",
    "public_key_text",
    "random_text",
    "root_path",
    "signature_matches",
    "signature_message",
    "thread_from_text",
    "thread_text",
    "token_scope",
    "token_subject",
    "verify_signature",
]
