"""The Hub over plain HTTP, for browsers and curl: content of buckets and CIDs, and the links that the Hub hands out.

`asgi` takes requests, `app` finds out what a request asks for, `visitor` who asks, `content` answers with a file or a folder,
`pages` writes the HTML. Nothing here changes a bucket. Above `services`."""

from bucketfs.hub.gateway.app import GatewayApp
from bucketfs.hub.gateway.asgi import GatewayAsgi

__all__ = ["GatewayApp", "GatewayAsgi"]
