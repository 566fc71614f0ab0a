"""Reading and writing the instances of databases: queries through the read filter, and changes that are committed together.

A change goes through its transaction's turn (`WriteTurns`), so what it was checked against is what is stored when it is written.
Schemas and functions are asked before the SQL transaction begins: that one is short, and holds up other databases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from bucketfs.errors import InvalidArgument, NotFound, TooLarge
from bucketfs.hub.config import AccountLimits
from bucketfs.hub.db import CollectionRow, HubDatabase, IndexKind, InstanceRow, Scan, StoredChange
from bucketfs.hub.threaddb.definition import index_values, schema_of
from bucketfs.hub.threaddb.instance import Instance, instance_text, merge_patch, new_id, with_unseen
from bucketfs.hub.threaddb.planner import Plan, plan
from bucketfs.hub.threaddb.query import Query, parse_query, sort_value
from bucketfs.hub.threaddb.scripts import Scripts
from bucketfs.hub.threaddb.write_turns import WriteTurn, WriteTurns
from bucketfs.types import ThreadId

INSTANCE_NOT_FOUND = "instance not found"
EXISTS_ALREADY = "can't create already existing instance"
REPLY_BYTES_MAX = 64 << 20
"""Of one find: what is more has to be asked for in parts."""
SORTED_BYTES_MAX = 32 << 20
"""Of one find that sorts by a field: up to twice as much is in memory."""
_FILTERED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class CreateAct:
    """A new instance."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class SaveAct:
    """An instance as it is to be; a new one if there is none of its id."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class DeleteAct:
    """The end of an instance."""

    id: str


Act = CreateAct | SaveAct | DeleteAct


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did to one instance: its ``before`` was None when it is new, its ``after`` is None when it is gone."""

    collection: CollectionRow
    id: str
    before: Instance | None
    after: Instance | None


class ThreadDb:
    """All databases of a Hub. Thread-safe; blocks."""

    def __init__(
        self, database: HubDatabase, scripts: Scripts, limits: AccountLimits, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.turns = WriteTurns()
        self._database = database
        self._table = database.instances
        self._scripts = scripts
        self._limits = limits
        self._now_ns = now_ns

    def close(self) -> None:
        """Ends the processes of functions."""
        self._scripts.close()

    # Definitions

    def check_functions(self, row: CollectionRow) -> None:
        """Whether validator and filter of a definition are functions. Raises InvalidArgument."""
        for body in (row.write_validator, row.read_filter):
            if body:
                self._scripts.check(body, lane=row.thread.hex())

    def redefine(self, row: CollectionRow) -> None:
        """Replace the definition of the collection of this name, and make the indexes that are new. Raises NotFound, and
        InvalidArgument when they cannot be made."""
        turn = self.turns.begin(row.thread)
        try:
            self._table.update_collection(row, lambda new, one: index_values(new, _instance(one)))
        finally:
            self.turns.end(turn)

    # Reading

    def find(self, collection: CollectionRow, query_json: bytes, reader: str | None) -> list[Instance]:
        """What a query wants, as ``reader`` may see it. Raises InvalidArgument with the text for the client, TooLarge."""
        query = parse_query(query_json)
        planned = self._planned(query, collection)
        shown = self._shown(collection, self._table.scan(collection, planned.scan), reader)
        matching = (instance for instance in shown if query.matches(instance))
        return list(_bounded(_chosen(query, planned, matching)))

    def _planned(self, query: Query, collection: CollectionRow) -> Plan:
        """How to find what a query wants. Raises InvalidArgument where a field of a criterion is missing somewhere."""
        planned = plan(query, collection)
        for path, kind in planned.indexed:
            if self._table.kinds_at(collection, path) - {kind}:
                raise InvalidArgument(
                    f"error when matching entry with query: instance field {path} doesn't exist in type object"
                )
        path = planned.scan.order_path
        if path and IndexKind.MISSING in self._table.kinds_at(collection, path):
            # Whether one without a value is among the results, which makes the find fail, only a look at them tells.
            return plan(query, collection, in_order_of_values=False)
        return planned

    def find_by_id(self, collection: CollectionRow, instance_id: str, reader: str | None) -> Instance:
        """Raises NotFound ``instance not found``, also for one that the reader may not see."""
        found = self.seen(collection, [instance_id], reader).get(instance_id)
        if found is None:
            raise NotFound(INSTANCE_NOT_FOUND)
        return found

    def seen(self, collection: CollectionRow, ids: Sequence[str], reader: str | None) -> dict[str, Instance]:
        """Those of the instances that are there and that ``reader`` may see."""
        found = self._table.instances(collection, list(dict.fromkeys(ids)))
        stored = [_instance(row) for row in found.values()]
        shown = self._filtered(collection, stored, reader)
        return {row: one for row, one in zip(found, shown, strict=True) if one is not None}

    def _shown(self, collection: CollectionRow, rows: Iterator[InstanceRow], reader: str | None) -> Iterator[Instance]:
        if not collection.read_filter:
            yield from map(_instance, rows)
            return
        while batch := [_instance(row) for row in islice(rows, _FILTERED_AT_ONCE)]:
            yield from (one for one in self._filtered(collection, batch, reader) if one is not None)

    def _filtered(
        self, collection: CollectionRow, instances: list[Instance], reader: str | None
    ) -> Sequence[Instance | None]:
        if not collection.read_filter:
            return instances
        return self._scripts.filter(collection.read_filter, reader, instances, lane=collection.thread.hex())

    # Writing

    def prepared(self, collection: CollectionRow, acts: Iterable[Act]) -> list[Act]:
        """Acts with the ids that are lacking, checked against the schema and what is stored now. Raises InvalidArgument with the
        text for the client."""
        found = list(self._with_ids(acts))
        stored = self._table.instances(collection, [act.instance["_id"] for act in found if isinstance(act, CreateAct)])
        if stored:
            raise InvalidArgument(EXISTS_ALREADY)
        schema = schema_of(collection)
        for act in found:
            if not isinstance(act, DeleteAct):
                schema.check(act.instance)
        return found

    def verify(self, collection: CollectionRow, acts: Iterable[Act], writer: str | None) -> None:
        """Whether a commit of ``acts`` would be accepted. Raises InvalidArgument, Denied."""
        self._changes([(collection, act) for act in self.prepared(collection, acts)], writer)

    def commit(self, turn: WriteTurn, acts: Sequence[tuple[CollectionRow, Act]], writer: str | None) -> list[Committed]:
        """Store all of ``acts`` or none, in the turn of the caller. What they did, each instance once.

        Raises InvalidArgument, Denied (the validator), Exists (a unique index), NotFound, OverQuota, Unavailable.
        """
        done = self._changes(acts, writer)
        if not self.turns.keep(turn):
            raise InvalidArgument("can't commit discarded/committed txn")
        changes = [
            StoredChange(
                one.collection,
                one.id,
                None if one.after is None else instance_text({k: v for k, v in one.after.items() if k != "_mod"}),
                0 if one.after is None else one.after["_mod"],
                {} if one.after is None else index_values(one.collection, one.after),
            )
            for one in done
        ]
        self._table.apply(turn.thread, changes, self._limits)
        return done

    def write(
        self, thread: ThreadId, collection: CollectionRow, acts: Iterable[Act], writer: str | None, *, own: bool = False
    ) -> tuple[list[Act], list[Committed]]:
        """One commit of its own: the acts with their ids, and what they did. A write of the Hub's ``own`` does not ask the
        functions of the collection. Raises as `commit` does."""
        turn = self.turns.begin(thread)
        try:
            # As it is now: it may have been defined anew while this call waited for its turn.
            collection = self._table.collection(thread, collection.name)
            if own:
                collection = replace(collection, write_validator="", read_filter="")
            prepared = self.prepared(collection, acts)
            return prepared, self.commit(turn, [(collection, act) for act in prepared], writer)
        finally:
            self.turns.end(turn)

    def _with_ids(self, acts: Iterable[Act]) -> Iterator[Act]:
        for act in acts:
            if isinstance(act, DeleteAct):
                yield act
            elif isinstance(act, CreateAct):
                yield act if act.instance.get("_id") else CreateAct({**act.instance, "_id": new_id(self._now_ns())})
            elif not act.instance.get("_id"):
                raise InvalidArgument("invalid instance: missing _id attribute")
            else:
                yield act

    def _changes(self, acts: Sequence[tuple[CollectionRow, Act]], writer: str | None) -> list[Committed]:
        """What acts do, one after another. Nothing is stored."""
        before = self._stored(acts)
        now = dict(before)
        collections = {collection.id: collection for collection, _ in acts}
        for collection, act in acts:
            key = (collection.id, _id_of(act))
            now[key] = self._after(collection, act, now[key], writer)
        return [
            Committed(collections[key[0]], key[1], before[key], after)
            for key, after in now.items()
            if after is not None or before[key] is not None
        ]

    def _stored(self, acts: Sequence[tuple[CollectionRow, Act]]) -> dict[tuple[int, str], Instance | None]:
        """The instances that acts are about, as they are; in the order in which they are named first."""
        found: dict[tuple[int, str], Instance | None] = {}
        named: dict[int, tuple[CollectionRow, list[str]]] = {}
        for collection, act in acts:
            found[collection.id, _id_of(act)] = None
            named.setdefault(collection.id, (collection, []))[1].append(_id_of(act))
        for collection, ids in named.values():
            for name, row in self._table.instances(collection, list(dict.fromkeys(ids))).items():
                found[collection.id, name] = _instance(row)
        return found

    def _after(self, collection: CollectionRow, act: Act, stored: Instance | None, writer: str | None) -> Instance | None:
        if isinstance(act, CreateAct) and stored is not None:
            raise InvalidArgument("cant't create already existent instance")
        if isinstance(act, DeleteAct):
            if stored is not None:
                self._validate(collection, "delete", act.id, None, stored, writer)
            return None
        # What the writer cannot see, which may be all of it, it cannot change either.
        shown = {} if stored is None else self._filtered(collection, [stored], writer)[0] or {}
        patch = act.instance if stored is None else merge_patch(_without_mod(shown), act.instance)
        self._validate(collection, "create" if stored is None else "save", act.instance["_id"], patch, stored, writer)
        after = act.instance if stored is None else with_unseen(stored, shown, act.instance)
        mod_ns = self._now_ns() if stored is None else max(self._now_ns(), stored["_mod"] + 1)
        return {**_without_mod(after), "_mod": mod_ns}

    def _validate(
        self, collection: CollectionRow, kind: str, instance_id: str, patch: Any, stored: Instance | None, writer: str | None
    ) -> None:
        if collection.write_validator:
            event = {
                "timestamp": self._now_ns(),
                "_id": new_id(self._now_ns()),
                "collection_name": collection.name,
                "patch": {"type": kind, "instance_id": instance_id, "json_patch": patch},
            }
            self._scripts.validate(collection.write_validator, writer, event, stored, lane=collection.thread.hex())


def _id_of(act: Act) -> str:
    return act.id if isinstance(act, DeleteAct) else str(act.instance["_id"])


def _instance(row: InstanceRow) -> Instance:
    found: Instance = json.loads(row.body)
    found["_mod"] = row.mod_ns
    return found


def _without_mod(instance: Instance) -> Instance:
    return {name: value for name, value in instance.items() if name != "_mod"}


def select(query_json: bytes, instances: Iterable[Instance]) -> list[Instance]:
    """What a query wants of instances that are all in memory. Raises InvalidArgument with the text for the client."""
    query = parse_query(query_json)
    by_id = sorted((one for one in instances if query.matches(one)), key=lambda one: str(one["_id"]))
    if query.by_id and query.descending:
        by_id.reverse()
    if query.seek:
        by_id = [
            one
            for one in by_id
            if (str(one["_id"]) <= query.seek if query.by_id and query.descending else str(one["_id"]) >= query.seek)
        ]
    return list(_chosen(query, Plan(Scan(), query.by_id), iter(by_id)))


def _chosen(query: Query, planned: Plan, matching: Iterator[Instance]) -> Iterator[Instance]:
    """Of those that match: sorted, without those to skip, and no more than the limit."""
    stop = query.skip + query.limit if query.limit else None
    if not planned.sorted:
        matching = iter(_sorted(query, matching, stop))
    return islice(matching, query.skip, stop)


def _sorted(query: Query, matching: Iterator[Instance], stop: int | None) -> list[Instance]:
    """The first ``stop`` of what matches, sorted. Raises TooLarge when these have more than `SORTED_BYTES_MAX`."""
    held: list[Instance] = []
    size = 0
    for instance in matching:
        sort_value(instance, query.sort_path)  # one that cannot be sorted fails the find, wherever it would come
        held.append(instance)
        size += len(instance_text(instance))
        if size > 2 * SORTED_BYTES_MAX or (stop is not None and len(held) > 2 * stop + _FILTERED_AT_ONCE):
            held = _in_order(query, held)[:stop]
            size = sum(len(instance_text(one)) for one in held)
            if size > SORTED_BYTES_MAX:
                raise TooLarge(
                    f"what is to be sorted by {query.sort_path} has more than {SORTED_BYTES_MAX >> 20} MiB:"
                    " ask for less, with a limit"
                )
    return _in_order(query, held)[:stop]


def _in_order(query: Query, instances: list[Instance]) -> list[Instance]:
    """Stable, also downwards: instances of one value stay in the order of their ids."""
    return sorted(instances, key=lambda one: sort_value(one, query.sort_path), reverse=query.descending)


def _bounded(instances: Iterable[Instance]) -> Iterator[Instance]:
    total = 0
    for instance in instances:
        total += len(instance_text(instance))
        if total > REPLY_BYTES_MAX:
            raise TooLarge(f"the result has more than {REPLY_BYTES_MAX >> 20} MiB: ask for it in parts, with limit and seek")
        yield instance
