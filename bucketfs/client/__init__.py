"""A Hub's client: our types in, our types out.

``Channel`` is one connection to one Hub and the only place that knows gRPC; above it stands one client class per service of
the Hub (``BucketsClient``, ``BlocksClient``, ``ThreadsClient``, ``UsersClient``, ``HubClient``), none of which keeps
anything but what it learnt of the Hub's abilities. ``connect`` puts them together and finds the thread that holds an
account's buckets. ``Retry`` wraps any of it for those who can wait.

Credentials become headers in ``metadata``, anew on each call: a signature's date must be ahead of the Hub's clock, and a key
may be replaced while a channel is open. What a Hub answers when it does not do what was asked becomes one of our errors
before it leaves this room; whether to try again is for the caller to say: a call that ended with Unavailable or TimedOut may
have been done. Blocks that come from here are checked against their CIDs; content pulled by path is not, because its CID is
of the tree, not of the bytes.
"""

from bucketfs.client.accounts import AccountInfo, HubClient, KeyInfo, Member, OrgInfo, SessionInfo
from bucketfs.client.blocks import NO_UPLOAD, BlocksClient, PutCounts
from bucketfs.client.bucket_info import (
    BucketDetails,
    BucketInfo,
    Created,
    Holdings,
    Limits,
    Links,
    PathItem,
    PathRights,
    Pushed,
)
from bucketfs.client.buckets import BucketsClient
from bucketfs.client.channel import Channel
from bucketfs.client.connection import (
    BUCKETS_THREAD,
    Connection,
    buckets_thread,
    connect,
    find_bucket,
    find_or_create_bucket,
)
from bucketfs.client.endpoint import Endpoint
from bucketfs.client.headers import NO_CREDENTIALS, Credentials, metadata
from bucketfs.client.hub_clock import behind_text
from bucketfs.client.mail import Letter, letter, opened, sealed
from bucketfs.client.retry import Backoff, Retry
from bucketfs.client.streams import Dialogue, Replies
from bucketfs.client.threads import Action, InstanceChange, ThreadInfo, ThreadsClient
from bucketfs.client.token import TokenBearer
from bucketfs.client.users import Message, ReadStatus, ThreadEntry, UsersClient

__all__ = [
    "BUCKETS_THREAD",
    "NO_CREDENTIALS",
    "NO_UPLOAD",
    "AccountInfo",
    "Action",
    "Backoff",
    "BlocksClient",
    "BucketDetails",
    "BucketInfo",
    "BucketsClient",
    "Channel",
    "Connection",
    "Created",
    "Credentials",
    "Dialogue",
    "Endpoint",
    "Holdings",
    "HubClient",
    "InstanceChange",
    "KeyInfo",
    "Letter",
    "Limits",
    "Links",
    "Member",
    "Message",
    "OrgInfo",
    "PathItem",
    "PathRights",
    "Pushed",
    "PutCounts",
    "ReadStatus",
    "Replies",
    "Retry",
    "SessionInfo",
    "ThreadEntry",
    "ThreadInfo",
    "ThreadsClient",
    "TokenBearer",
    "UsersClient",
    "behind_text",
    "buckets_thread",
    "connect",
    "find_bucket",
    "find_or_create_bucket",
    "letter",
    "metadata",
    "opened",
    "sealed",
]
