"""A user of ThreadDB who knows the protocol's messages: collections and instances of one database, over a bare client."""

from __future__ import annotations

import json
from typing import Any

from support.bareclient import Caller

from bucketfs.wire import threads_pb2

pb: Any = threads_pb2
THREADS = "threads.pb.API"
DB = bytes.fromhex("0155") + bytes(32)


class Database:
    """One database, and a user of it."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def ask(self, method: str, **fields: Any) -> Any:
        """The answer to a method; the database is filled in."""
        return self.caller.call(THREADS, method, getattr(pb, f"{method}Request")(dbID=DB, **fields))

    def refused(self, method: str, **fields: Any) -> tuple[str, str]:
        """Code and text of a method that must fail."""
        found: tuple[str, str] = self.caller.refused(THREADS, method, getattr(pb, f"{method}Request")(dbID=DB, **fields))
        return found

    def define(self, name: str, schema: Any = None, **fields: Any) -> None:
        self.ask("NewCollection", config=config(name, schema, **fields))

    def create(self, *instances: Any, name: str = "people") -> list[str]:
        return list(self.ask("Create", collectionName=name, instances=encoded(instances)).instanceIDs)

    def save(self, *instances: Any, name: str = "people") -> None:
        self.ask("Save", collectionName=name, instances=encoded(instances))

    def delete(self, *ids: str, name: str = "people") -> None:
        self.ask("Delete", collectionName=name, instanceIDs=ids)

    def get(self, instance_id: str, name: str = "people") -> Any:
        return json.loads(self.ask("FindByID", collectionName=name, instanceID=instance_id).instance)

    def find(self, name: str = "people", **query: Any) -> list[Any]:
        found = self.ask("Find", collectionName=name, queryJSON=json.dumps(query).encode()).instances
        return [json.loads(one) for one in found]

    def names(self, **query: Any) -> str:
        return "".join(one["name"] for one in self.find(**query))


def config(name: str, schema: Any = None, **fields: Any) -> Any:
    """The definition of a collection; without a schema the one that JavaScript sends then."""
    data = json.dumps({"properties": {"_id": {"type": "string"}}} if schema is None else schema).encode()
    indexes = [pb.Index(path=path, unique=unique) for path, unique in fields.pop("indexes", ())]
    return pb.CollectionConfig(name=name, schema=data, indexes=indexes, **fields)


def encoded(instances: Any) -> list[bytes]:
    """Instances as bytes."""
    return [json.dumps(one).encode() for one in instances]


def where(path: str, operation: int, value: Any) -> dict[str, Any]:
    """A criterion; ``operation`` by its number."""
    kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "float"
    return {"fieldPath": path, "operation": operation, "value": {kind: value}}
