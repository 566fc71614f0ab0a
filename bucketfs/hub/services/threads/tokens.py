"""Tokens for users: a challenge, signed with the user's key, buys one."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bucketfs.errors import InvalidArgument, NotFound
from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.keys import make_token, parse_public_key, public_key_text, verify_signature

CHALLENGE_BYTES = 32
CHALLENGE_TIMEOUT_S = 60.0
ACCOUNT_KEY = "this is the key of an account: ask with a session or account key of that account"
"""A person who has seen the private key of an account, and may act for it no longer, gets no token with it. User group keys do not
count: every user of an app has them."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """``GetToken`` of the service whose messages are in the module ``messages``."""

    hub: Hub
    messages: Any
    timeout_s: float = CHALLENGE_TIMEOUT_S

    def get_token(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        """Public key in, challenge out, signature in, token out. The token is good beside the keys of the owner whose key or
        session this call came with.
        """
        first = next(requests, None)
        if first is None or not first.key:
            raise Status(Code.INVALID_ARGUMENT, "Key is required")
        with answered(InvalidArgument, Code.UNKNOWN):
            raw = parse_public_key(first.key)
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        yield self.messages.GetTokenReply(challenge=challenge)
        second = _next_within(requests, self.timeout_s)
        if second is None or not second.signature:
            raise Status(Code.INVALID_ARGUMENT, "Signature is required")
        if not verify_signature(raw, challenge, second.signature):
            raise Status(Code.UNKNOWN, "bad signature")
        subject, owner = public_key_text(raw), context.call.payer
        if subject != context.call.account and self._is_account(subject):
            raise Status(Code.PERMISSION_DENIED, ACCOUNT_KEY)
        yield self.messages.GetTokenReply(token=make_token(self.hub.host_key, subject, time.time_ns(), owner))

    def _is_account(self, public_key: str) -> bool:
        try:
            self.hub.database.account(public_key)
        except NotFound:
            return False
        return True


def _next_within(requests: Iterator[Any], timeout_s: float) -> Any:
    """The next request, ``None`` at the end. Raises Status DEADLINE_EXCEEDED when none comes in time.

    A request iterator cannot be asked with a timeout, so a thread of its own asks; when its answer is no longer awaited, it ends
    with the call.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(next(requests, None))
        except Status as error:
            answers.put(error)

    threading.Thread(target=ask, name="hub-challenge", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise Status(Code.DEADLINE_EXCEEDED, "Challenge deadline exceeded") from None
    if isinstance(answer, Status):
        raise answer
    return answer
