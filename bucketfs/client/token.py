"""The token of a user: asked for when there is none, and again when the Hub no longer accepts it.

Tokens do not expire, but a Hub that lost its host key accepts none of the old ones; a running mount then gets a new one by itself
(go-threads ``net/api``, ``GetToken``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from bucketfs.client.headers import Credentials
from bucketfs.keys import Identity


class TokenBearer:
    """Adds a token to credentials that name an identity and hold none. Call it for the credentials to use."""

    def __init__(self, source: Callable[[], Credentials]) -> None:
        self._source = source
        self._tokens: dict[str, str] = {}
        self._asking = trio.Lock()

    def __call__(self) -> Credentials:
        credentials = self._source()
        if credentials.identity and not credentials.token:
            return replace(credentials, token=self._tokens.get(credentials.identity, ""))
        return credentials

    async def prepare(self, ask: Callable[[Identity], Awaitable[str]]) -> None:
        """Gets the token with ``ask``, if one is needed and not there; one task asks, the others wait. Raises what ``ask``
        raises."""
        if not self._lacking:
            return
        async with self._asking:
            wanted = self._lacking
            if wanted:
                self._tokens[wanted] = await ask(Identity.from_text(wanted))

    def refused(self) -> bool:
        """The Hub did not accept the credentials: ``prepare`` asks for another token. False when the credentials came with their
        token, or need none."""
        credentials = self._source()
        self._tokens.pop(credentials.identity, None)
        return bool(credentials.identity) and not credentials.token

    @property
    def _lacking(self) -> str:
        """The identity that needs a token."""
        credentials = self()
        return credentials.identity if not credentials.token else ""
