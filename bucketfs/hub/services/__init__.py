"""The Hub's gRPC services, one file or folder each. `SERVICES` is the table of them: what makes each out of a `Hub`.

A service names its methods in one table; a method is a function of a request and a `Context`. Above all other sub-rooms.
"""

from bucketfs.hub.services import accounts, blocks, threads, users
from bucketfs.hub.services.buckets import service as buckets

SERVICES = (accounts.service, users.service, threads.service, threads.net_service, buckets.service, blocks.service)

__all__ = ["SERVICES"]
