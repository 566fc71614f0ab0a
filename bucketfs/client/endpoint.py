"""Where a Hub listens, as users write it and as gRPC dials it.

``HOST:PORT`` and ``http://HOST[:PORT]`` are cleartext HTTP/2, ``https://HOST[:PORT]`` is TLS, ``unix:/path`` is a socket of
this machine. (The Go clients turn TLS on when the text contains "443"; here the scheme alone decides.) Pure.

Keys, sessions and tokens travel with every call. Over a cleartext connection to another machine each hop reads them, so such an
endpoint is refused unless the user says that the network is safe (`check_transport`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote

from bucketfs.errors import Usage

_FORMS = "HOST:PORT, http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH"
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s\[\]/:@]+)(?::(?P<port>\d{1,5}))?\Z")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``address`` is ``HOST:PORT`` or ``unix:/path``, ``tls`` whether it is encrypted, ``local`` whether it is a socket of this
    machine, ``insecure`` whether cleartext to another machine was asked for."""

    address: str
    tls: bool = False
    local: bool = False
    insecure: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Endpoint:
        """The endpoint that ``text`` names. Raises Usage."""
        text = text.strip()
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = "/" + path.lstrip("/") if path.startswith("//") else path
            if not path.startswith("/") or path == "/":
                raise Usage(f"not the address of a Hub: {text!r}", hint="a socket is written unix:/absolute/path")
            return cls(f"unix:{path}", local=True)
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "", text
        elif scheme not in _DEFAULT_PORTS:
            raise Usage(f"not the address of a Hub: {text!r}", hint=f"write {_FORMS}")
        match = _AUTHORITY.match(rest.removesuffix("/"))
        port = _port_of(match, scheme) if match else None
        if match is None or port is None:
            raise Usage(f"not the address of a Hub: {text!r}", hint=f"write {_FORMS}")
        return cls(f"{match['host']}:{port}", tls=scheme == "https", insecure=insecure)

    def __str__(self) -> str:
        if self.local:
            return self.address
        return f"https://{self.address}" if self.tls else self.address

    @property
    def on_this_machine(self) -> bool:
        """Whether nothing leaves this machine on the way there: a socket, or a loopback address. Of names only localhost counts:
        what others resolve to is another machine's word."""
        host = self.address.rpartition(":")[0].strip("[]").partition("%")[0]
        if self.local or host.lower() == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)

    def check_transport(self) -> None:
        """Raise Usage where credentials would cross a network in clear text and that was not asked for."""
        if not (self.tls or self.insecure or self.on_this_machine):
            raise Usage(
                f"the connection to {self.address} is not encrypted: your keys and files would cross the network in clear text",
                hint=f"write https://{self.address}, or --insecure-transport if that network is your own",
            )

    @property
    def target(self) -> str:
        """What gRPC dials. gRPC takes a socket's path out of a URL, so bytes that mean something there, or are no text, are
        escaped."""
        if not self.local:
            return self.address
        return "unix:" + quote(self.address.removeprefix("unix:").encode("utf-8", "surrogateescape"))


def _port_of(match: re.Match[str], scheme: str) -> int | None:
    text = match["port"]
    if text is None:
        return _DEFAULT_PORTS.get(scheme)
    return int(text) if 0 < int(text) < 65536 else None
