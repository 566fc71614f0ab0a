"""ThreadDB: collections of JSON instances, with schemas, indexes, and functions of the database's owner that say who may write
and who may read.

`ThreadDb` reads and commits. `query` is what clients ask, `planner` finds the index for it, `definition` are collections,
`instance` the JSON of clients, `write_turns` let one transaction write to a database at a time, `json_schema` and `scripts` (with
`script_process`) check what strangers give. Above ``db``, below ``services``."""

from bucketfs.hub.threaddb.definition import check_name, defined, schema_of
from bucketfs.hub.threaddb.instance import Instance, instance_text, new_id, parse_instance
from bucketfs.hub.threaddb.json_schema import CollectionSchema
from bucketfs.hub.threaddb.scripts import ScriptFailed, Scripts
from bucketfs.hub.threaddb.threaddb import Act, Committed, CreateAct, DeleteAct, SaveAct, ThreadDb, select
from bucketfs.hub.threaddb.write_turns import WriteTurn

__all__ = [
    "Act",
    "CollectionSchema",
    "Committed",
    "CreateAct",
    "DeleteAct",
    "Instance",
    "SaveAct",
    "ScriptFailed",
    "Scripts",
    "ThreadDb",
    "WriteTurn",
    "check_name",
    "defined",
    "instance_text",
    "new_id",
    "parse_instance",
    "schema_of",
    "select",
]
