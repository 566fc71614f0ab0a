"""ThreadDB: collections of JSON instances, with schemas, indexes, and functions of the database's owner that say who may write
and who may read.

Above ``db``, below ``services``."""

from bucketfs.hub.threaddb.json_schema import CollectionSchema
from bucketfs.hub.threaddb.scripts import ScriptFailed, Scripts

__all__ = ["CollectionSchema", "ScriptFailed", "Scripts"]
