"""From where a call comes, as far as it matters when places are shared out among callers without an account. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote


def peer_of(text: str) -> str:
    """The machine in gRPC's text for a peer (``ipv4:192.0.2.1:5000``), without its port. Of an IPv6 address the network, since
    one machine has all of its addresses. A proxy in front of the hub is one machine.
    """
    scheme, _, rest = text.partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return scheme
    host = unquote(rest).rpartition(":")[0].removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
