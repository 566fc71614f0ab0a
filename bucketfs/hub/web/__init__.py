"""The Hub for web clients: gRPC calls over HTTP POST and over WebSockets (grpc-web), beside gRPC itself.

`http_server` runs an ASGI application (the gateway's, too), `grpc_web` answers its requests, `web_call` is one call as the
handlers see it, `frames` are the bytes. A call goes to the same handlers in the same threads as one that came by gRPC, so who
is let in, whose turn it is, and every text are the same. Above `rpc`."""

from bucketfs.hub.web.grpc_web import GrpcWeb
from bucketfs.hub.web.http_server import HttpServer

__all__ = ["GrpcWeb", "HttpServer"]
