"""A user names a Hub on another machine without TLS: no key is sent before they say that this is what they want."""

from __future__ import annotations

import os

import pytest
from support.home import Home

ELSEWHERE = "192.0.2.1:3006"
"""An address that is routed nowhere (RFC 5737)."""


@pytest.mark.parametrize(
    "command",
    [
        ("mount", "Buckets"),
        ("buck", "ls"),
        ("buck", "push", ".", "home"),
        ("hub", "whoami"),
        ("hub", "key", "ls"),
        ("hub", "org", "ls"),
    ],
    ids=" ".join,
)
def test_every_command_refuses(home: Home, command: tuple[str, ...]) -> None:
    os.mkdir(home.root / "Buckets")
    home.extra.update(BUCKETFS_HUB=ELSEWHERE, BUCKETFS_API_KEY="bkey", BUCKETFS_API_SECRET="bsecret")
    said = home.complaint(*command)
    assert "not encrypted" in said and f"https://{ELSEWHERE}" in said and "--insecure-transport" in said


def test_signing_up_and_in_refuse(home: Home) -> None:
    for command in (("init", "me", "me@example.org"), ("login", "me"), ("login", "--key")):
        done = home.cli("hub", *command, "--hub", ELSEWHERE, check=False, stdin="key\nsecret\n")
        assert done.returncode == 2 and "not encrypted" in done.stderr, done.stderr
