"""The Hub's database: schema, models, and one short transaction per method.

`HubDatabase` is the way in; it hands out the rows of `models` as frozen values. `schema` draws the tables.
This sub-room imports no other of the Hub.
"""

from bucketfs.hub.db.accounts import OWNER
from bucketfs.hub.db.buckets import INSTANCE_NOT_FOUND, HubDatabase
from bucketfs.hub.db.engine import Database
from bucketfs.hub.db.instance_rows import (
    INDEXED_CHARS_MAX,
    CollectionRow,
    IndexCondition,
    IndexKind,
    IndexValue,
    InstanceRow,
    Scan,
    StoredChange,
)
from bucketfs.hub.db.instances import COLLECTION_NOT_FOUND, InstanceTable
from bucketfs.hub.db.models import (
    BUCKET_VERSION,
    AccountKind,
    AccountRow,
    AccountUsage,
    BucketRow,
    KeyRow,
    PathEntry,
    ThreadRow,
)
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.hub.db.usage import STORAGE, Accounting, refuse_growth

__all__ = [
    "BUCKET_VERSION",
    "COLLECTION_NOT_FOUND",
    "INDEXED_CHARS_MAX",
    "INSTANCE_NOT_FOUND",
    "OWNER",
    "STORAGE",
    "AccountKind",
    "AccountRow",
    "AccountUsage",
    "Accounting",
    "BucketRow",
    "CollectionRow",
    "Database",
    "HubDatabase",
    "IndexCondition",
    "IndexKind",
    "IndexValue",
    "InstanceRow",
    "InstanceTable",
    "KeyRow",
    "PathEntry",
    "Scan",
    "StoredChange",
    "ThreadRow",
    "refuse_growth",
    "sqlite_url",
]
