"""A Hub's client: our types in, our types out.

``Channel`` is one connection to one Hub and the only place that knows gRPC. Above it stands one client class per service of the
Hub (``BucketsClient``, ``BlocksClient``, ``ThreadsClient``, ``UsersClient``, ``HubClient``); none keeps anything but what it
learnt of the Hub's abilities. ``connect`` puts them together and finds the thread that holds an account's buckets.

Credentials become headers anew on each call: a signature's date must be ahead of the Hub's clock, and a key may be replaced while
a channel is open. A refusal becomes one of our errors before it leaves this room (``status_errors``). Whether to try again is for
the caller to decide (``Retry``): a call that ended with Unavailable or TimedOut may have been done. Blocks are checked against
their CIDs; content pulled by path is not, because its CID is that of the tree, not of the bytes.
"""

from bucketfs.client.accounts import HubClient, KeyInfo, OrgInfo
from bucketfs.client.blocks import NO_UPLOAD, BlocksClient, PutResult
from bucketfs.client.bucket_info import (
    AccountQuota,
    BucketDetails,
    BucketInfo,
    Holdings,
    Links,
    PathItem,
)
from bucketfs.client.buckets import BucketsClient
from bucketfs.client.channel import Channel
from bucketfs.client.connection import (
    Connection,
    connect,
    find_bucket,
    find_or_create_bucket,
)
from bucketfs.client.endpoint import Endpoint
from bucketfs.client.headers import NO_CREDENTIALS, Credentials
from bucketfs.client.hub_clock import behind_text
from bucketfs.client.mail import letter, opened
from bucketfs.client.retry import Backoff, Retry
from bucketfs.client.streams import Replies
from bucketfs.client.threads import InstanceAction, InstanceChange, ThreadsClient
from bucketfs.client.users import Message, ReadStatus, UsersClient

__all__ = [
    "NO_CREDENTIALS",
    "NO_UPLOAD",
    "AccountQuota",
    "Backoff",
    "BlocksClient",
    "BucketDetails",
    "BucketInfo",
    "BucketsClient",
    "Channel",
    "Connection",
    "Credentials",
    "Endpoint",
    "Holdings",
    "HubClient",
    "InstanceAction",
    "InstanceChange",
    "KeyInfo",
    "Links",
    "Message",
    "OrgInfo",
    "PathItem",
    "PutResult",
    "ReadStatus",
    "Replies",
    "Retry",
    "ThreadsClient",
    "UsersClient",
    "behind_text",
    "connect",
    "find_bucket",
    "find_or_create_bucket",
    "letter",
    "opened",
]
