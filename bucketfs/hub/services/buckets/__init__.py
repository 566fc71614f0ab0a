"""``api.bucketsd.pb.APIService``: buckets by path.

`service` has the table of methods and makes buckets; `read`, `push` and `edit` hold the others.
Every change goes through `BucketWriter`.
"""

from bucketfs.hub.services.buckets.paths import SEED_REFUSED
from bucketfs.hub.services.buckets.write import ATTEMPTS_MAX, BucketWriter, may_all

__all__ = [
    "ATTEMPTS_MAX",
    "SEED_REFUSED",
    "BucketWriter",
    "may_all",
]
