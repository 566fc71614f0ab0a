"""Collections of a database: made, changed, listed, deleted (``threads.pb``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bucketfs.errors import Exists, InvalidArgument, NotFound
from bucketfs.hub.context import BUCKETS_COLLECTION, Hub
from bucketfs.hub.db import COLLECTION_NOT_FOUND, CollectionRow
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.threaddb import defined, schema_of
from bucketfs.keys import parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2

_REGISTERED = "collection already registered"


@dataclass(frozen=True, slots=True)
class Definitions:
    """The methods. The collection ``buckets`` is always there and cannot be changed."""

    hub: Hub

    def new(self, request: Any, _context: Context) -> Any:
        self.make(self._thread(request), request.config)
        return pb.NewCollectionReply()

    def make(self, thread: ThreadId, config: Any) -> None:
        """The collection that a ``CollectionConfig`` describes. Raises Status."""
        row = self.checked(thread, config)
        with answered(Exists, Code.UNKNOWN):
            self.hub.database.instances.create_collection(row)

    def checked(self, thread: ThreadId, config: Any) -> CollectionRow:
        """The definition. Raises Status with the text that clients compare."""
        if config.name == BUCKETS_COLLECTION:
            raise Status(Code.UNKNOWN, _REGISTERED)
        indexes = [(index.path, index.unique) for index in config.indexes]
        with answered(InvalidArgument, Code.UNKNOWN):
            row = defined(thread, config.name, config.schema, indexes, config.writeValidator, config.readFilter)
            self.hub.threaddb.check_functions(row)
        return row

    def update(self, request: Any, _context: Context) -> Any:
        thread = self._thread(request)
        with answered(NotFound, Code.UNKNOWN):
            self._row(thread, request.config.name)
            row = self.checked(thread, request.config)
            with answered(InvalidArgument, Code.UNKNOWN):
                self.hub.threaddb.redefine(row)
        return pb.UpdateCollectionReply()

    def delete(self, request: Any, _context: Context) -> Any:
        thread = self._thread(request)
        with answered(NotFound, Code.UNKNOWN):
            self.hub.database.instances.delete_collection(thread, request.name)
        return pb.DeleteCollectionReply()

    def info(self, request: Any, _context: Context) -> Any:
        return self._info(self._thread(request), request.name)

    def indexes(self, request: Any, _context: Context) -> Any:
        return pb.GetCollectionIndexesReply(indexes=self._info(self._thread(request), request.name).indexes)

    def all(self, request: Any, _context: Context) -> Any:
        thread = self._thread(request)
        names = [row.name for row in self.hub.database.instances.collections(thread)]
        if self.hub.database.buckets(thread):
            names = sorted([*names, BUCKETS_COLLECTION])
        return pb.ListCollectionsReply(collections=[self._info(thread, name) for name in names])

    def _info(self, thread: ThreadId, name: str) -> Any:
        if name == BUCKETS_COLLECTION:
            return pb.GetCollectionInfoReply(name=name, schema=b"{}", indexes=[pb.Index(path="path")])
        row = self._row(thread, name)
        return pb.GetCollectionInfoReply(
            name=row.name,
            schema=schema_of(row).text,
            indexes=[pb.Index(path=path, unique=unique) for path, unique in row.indexes.items()],
            writeValidator=row.write_validator,
            readFilter=row.read_filter,
        )

    def _row(self, thread: ThreadId, name: str) -> CollectionRow:
        if name == BUCKETS_COLLECTION:
            raise NotFound(COLLECTION_NOT_FOUND)
        return self.hub.database.instances.collection(thread, name)

    def _thread(self, request: Any) -> ThreadId:
        return self.hub.database.thread(parse_thread(request.dbID)).id
