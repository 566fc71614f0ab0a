"""Where handlers meet gRPC: admission, authentication, status, and a fair order among the calls of many accounts.

A handler gets a `Context` and returns a message or raises `Status`; it imports no grpc. Above `db` and `store`.
"""

from bucketfs.hub.rpc.authentication import (
    BLOCKS,
    BUCKETS,
    HUB,
    INSECURE_KEY,
    SESSION_NS,
    THREADS,
    THREADS_NET,
    USERS,
    WARNING_TRAILER,
    Authenticator,
    check_realm,
)
from bucketfs.hub.rpc.dispatch import Dispatcher, in_pool, pool_of
from bucketfs.hub.rpc.listen import bind
from bucketfs.hub.rpc.service import Call, Context, Service
from bucketfs.hub.rpc.status import NON_FAST_FORWARD, Code, Status, answered

__all__ = [
    "BLOCKS",
    "BUCKETS",
    "HUB",
    "INSECURE_KEY",
    "NON_FAST_FORWARD",
    "SESSION_NS",
    "THREADS",
    "THREADS_NET",
    "USERS",
    "WARNING_TRAILER",
    "Authenticator",
    "Call",
    "Code",
    "Context",
    "Dispatcher",
    "Service",
    "Status",
    "answered",
    "bind",
    "check_realm",
    "in_pool",
    "pool_of",
]
