"""The token of a user: got by the Hub's challenge when there is none, and anew when the Hub no longer accepts it.

Tokens do not expire, but a Hub that lost its host key accepts none of the old ones, and a running mount should not need a hand
then (go-threads ``net/api``, ``GetToken``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from bucketfs.client.headers import Credentials
from bucketfs.keys import Identity


class TokenBearer:
    """Credentials that get themselves a token when they name an identity and hold none. Call it for the credentials to
    use."""

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
        """Gets the token with ``ask``, if one is needed and not had; one at a time, the others wait for it. Raises what
        ``ask`` raises."""
        if not self._lacking:
            return
        async with self._asking:
            wanted = self._lacking
            if wanted:
                self._tokens[wanted] = await ask(Identity.from_text(wanted))

    def refused(self) -> bool:
        """The Hub did not accept the credentials: another token is asked for before the next call. False when the token is
        not ours to ask for, or there is none."""
        credentials = self._source()
        self._tokens.pop(credentials.identity, None)
        return bool(credentials.identity) and not credentials.token

    @property
    def _lacking(self) -> str:
        """The identity that needs a token."""
        credentials = self()
        return credentials.identity if not credentials.token else ""
