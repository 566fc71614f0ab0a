"""The syntax of names that people choose on a hub: usernames, emails, orgs and their slugs. Pure."""

from __future__ import annotations

import re
import unicodedata

SLUG_MAX = 32

USERNAME_TEXT = "username may only contain alphanumeric characters or single hyphens, and cannot begin or end with a hyphen"

_USERNAME = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)?")
_EMAIL = re.compile(r"[^@\s\x00-\x20<>()\[\],;:\\\"]+@[^@\s\x00-\x20<>()\[\],;:\\\"]+")
_EMAIL_MAX = 254


def is_username(text: str) -> bool:
    return _USERNAME.fullmatch(text) is not None


def is_email(text: str) -> bool:
    """A plain address, no display name."""
    return len(text) <= _EMAIL_MAX and _EMAIL.fullmatch(text) is not None


def slug_of(name: str) -> str:
    """An org's name as it stands in addresses: ASCII, hyphens for what is none of letters, digits, ``-``, ``_``; case kept.

    At most 32 characters, cut where a word ends. Empty when nothing is left.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9_-]", "-", plain)).strip("-_")
    if len(slug) <= SLUG_MAX:
        return slug
    cut = slug.rfind("-", 0, SLUG_MAX + 1)
    return slug[: cut if cut > 0 else SLUG_MAX].strip("-_")
