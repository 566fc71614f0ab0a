"""Transactions and listeners of ThreadDB, over real gRPC streams."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.databaseuser import DB, THREADS, Database, config, encoded, where

from bucketfs.hub.threaddb.write_turns import WriteTurns
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2


@pytest.fixture
def db(alice: Caller) -> Database:
    alice.call(THREADS, "NewDB", pb.NewDBRequest(dbID=DB, collections=[config("people", {})]))
    return Database(alice)


class Transaction:
    """A stream of requests, each answered before the next."""

    def __init__(self, caller: Caller, kind: str = "Write", collection: str = "people") -> None:
        self._kind = kind
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.send("startTransactionRequest", pb.StartTransactionRequest(dbID=DB, collectionName=collection))
        self.stream = caller.start(THREADS, f"{kind}Transaction", iter(self._requests.get, None), timeout_s=60)

    def send(self, option: str, request: Any) -> None:
        self._requests.put(getattr(pb, f"{self._kind}TransactionRequest")(**{option: request}))

    def ask(self, method: str, **fields: Any) -> Any:
        """The reply to one operation, e.g. ``create``."""
        name = method[0].lower() + method[1:]
        self.send(f"{name}Request", getattr(pb, f"{method}Request")(**fields))
        reply = next(self.stream)
        return getattr(reply, f"{name}Reply")

    def end(self) -> tuple[str, str]:
        """Commit: the code and text of the stream."""
        self._requests.put(None)
        try:
            assert list(self.stream) == []
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


def test_a_transaction_is_seen_as_a_whole_and_at_its_end(db: Database) -> None:
    """Readers see the state before or after, never half; the transaction itself reads the state before it."""
    db.create({"_id": "1", "name": "a"})
    transaction = Transaction(db.caller)
    assert list(transaction.ask("Create", instances=encoded([{"_id": "2", "name": "b"}])).instanceIDs) == ["2"]
    assert transaction.ask("Save", instances=encoded([{"_id": "1", "name": "c"}])).transactionError == ""
    assert not transaction.ask("Has", instanceIDs=["2"]).exists
    assert json.loads(transaction.ask("FindByID", instanceID="1").instance)["name"] == "a"
    assert db.names() == "a"
    assert transaction.end() == ("OK", "")
    assert db.names() == "cb"


def test_an_operation_that_fails_leaves_the_others(db: Database) -> None:
    """Its error is in its reply; the stream goes on and the rest is committed."""
    db.create({"_id": "1", "name": "a"})
    transaction = Transaction(db.caller)
    taken = transaction.ask("Create", instances=encoded([{"_id": "1", "name": "x"}]))
    assert taken.transactionError == "can't create already existing instance"
    assert transaction.ask("FindByID", instanceID="none").transactionError == "instance not found"
    assert transaction.ask("Find", queryJSON=b"[").transactionError == "query is not JSON"
    assert transaction.ask("Verify", instances=encoded([{"_id": "5"}])).transactionError == ""
    transaction.ask("Delete", instanceIDs=["1", "unknown"])
    transaction.ask("Create", instances=encoded([{"_id": "2", "name": "b"}]))
    assert transaction.end() == ("OK", "")
    assert db.names() == "b"


def test_one_id_twice_is_found_at_the_end(db: Database) -> None:
    """Nothing of such a transaction is stored. (The text is the original's, with its mistake.)"""
    transaction = Transaction(db.caller)
    for _ in range(2):
        assert transaction.ask("Create", instances=encoded([{"_id": "1", "name": "x"}])).transactionError == ""
    assert transaction.end() == ("UNKNOWN", "cant't create already existent instance")
    assert db.find() == []


def test_what_was_discarded_is_not_committed(db: Database) -> None:
    """A program that gave up gets an error at the end, and nothing is stored."""
    transaction = Transaction(db.caller)
    transaction.ask("Create", instances=encoded([{"_id": "1", "name": "x"}]))
    transaction.ask("Discard")
    assert transaction.ask("Has", instanceIDs=["1"]).transactionError == ""
    assert transaction.end() == ("UNKNOWN", "can't commit discarded/committed txn")
    assert db.find() == []


def test_a_stream_that_breaks_commits_nothing(db: Database) -> None:
    """A client that was killed in the middle must not leave half of its work."""
    transaction = Transaction(db.caller)
    transaction.ask("Create", instances=encoded([{"_id": "1", "name": "x"}]))
    transaction.stream.cancel()
    # The turn is free again, and what was not committed is not there.
    db.create({"_id": "2", "name": "y"})
    assert db.names() == "y"


def test_transactions_of_a_database_come_one_after_another(db: Database) -> None:
    """Two programs that each read a counter and save it one higher must not lose one of both."""
    db.create({"_id": "n", "name": "n", "count": 0})

    def add() -> None:
        for _ in range(5):
            transaction = Transaction(db.caller)
            found = json.loads(transaction.ask("FindByID", instanceID="n").instance)
            transaction.ask("Save", instances=encoded([{**found, "count": found["count"] + 1}]))
            assert transaction.end() == ("OK", "")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.get("n")["count"] == 20


def test_an_idle_transaction_holds_up_the_others_for_a_while_only() -> None:
    """A program that sleeps in a transaction loses its turn to the next one, and cannot commit any more."""
    now_s = [0.0]
    turns = WriteTurns(lambda: now_s[0])
    idle = turns.begin(ThreadId(b"db"))
    now_s[0] = 31.0
    other = turns.begin(ThreadId(b"db"))
    assert not turns.keep(idle)
    assert turns.keep(other)
    turns.end(idle)
    assert turns.keep(other)


def test_streams_that_begin_wrongly(db: Database) -> None:
    """A client that misses the first message is told which one."""
    for kind in ("Read", "Write"):
        empty = db.caller.start(THREADS, f"{kind}Transaction", iter(()), timeout_s=30)
        with pytest.raises(grpc.RpcError) as caught:
            next(empty)
        assert caught.value.details() == f"no {kind}TransactionRequest type set"
        nowhere = Transaction(db.caller, kind, "nowhere")
        assert nowhere.end() == ("NOT_FOUND", "collection not found")


def test_a_read_transaction(db: Database) -> None:
    """It reads, also buckets, and has no way to write."""
    db.create({"_id": "1", "name": "a"})
    transaction = Transaction(db.caller, "Read")
    assert transaction.ask("Has", instanceIDs=["1"]).exists
    assert len(transaction.ask("Find", queryJSON=b"{}").instances) == 1
    assert transaction.end() == ("OK", "")
    assert not Transaction(db.caller, "Read", "buckets").ask("Has", instanceIDs=["x"]).exists


@pytest.fixture
def listen(db: Database) -> Iterator[Callable[..., Any]]:
    """Starts a listener that is registered; all are ended."""
    streams: list[Any] = []

    def start(caller: Caller, *filters: Any) -> Any:
        stream = caller.start(THREADS, "Listen", pb.ListenRequest(dbID=DB, filters=filters), timeout_s=60)
        stream.initial_metadata()
        streams.append(stream)
        return stream

    yield start
    for stream in streams:
        stream.cancel()


def seen(stream: Any) -> tuple[str, str, int, Any]:
    reply = next(stream)
    instance = json.loads(reply.instance) if reply.instance else {}
    return reply.collectionName, reply.instanceID, reply.action, instance.get("name")


def test_changes_of_every_collection_are_heard(db: Database, listen: Callable[..., Any]) -> None:
    """A program hears of what it asked for, once it is committed, and of nothing else."""
    db.define("notes", {})
    everything = listen(db.caller)
    saves = listen(db.caller, pb.ListenRequest.Filter(collectionName="people", action=pb.ListenRequest.Filter.SAVE))
    one = listen(db.caller, pb.ListenRequest.Filter(instanceID="n"))
    db.create({"_id": "1", "name": "a"})
    db.create({"_id": "n", "name": "b"}, name="notes")
    transaction = Transaction(db.caller)
    transaction.ask("Save", instances=encoded([{"_id": "1", "name": "c"}]))
    transaction.ask("Create", instances=encoded([{"_id": "2", "name": "d"}]))
    assert transaction.end() == ("OK", "")
    db.delete("1")
    heard = [seen(everything) for _ in range(5)]
    assert [one[:3] for one in heard] == [
        ("people", "1", 0),
        ("notes", "n", 0),
        ("people", "1", 1),
        ("people", "2", 0),
        ("people", "1", 2),
    ]
    assert seen(saves)[:3] == ("people", "1", 1)
    assert seen(one) == ("notes", "n", 0, "b")


def test_a_listener_hears_what_its_filter_shows(db: Database, bob: Caller, listen: Callable[..., Any]) -> None:
    """What a reader may not see it does not hear of."""
    db.define("posts", {}, readFilter="if (instance.hidden) return null; delete instance.name; return instance")
    stream = listen(bob)
    db.create({"_id": "1", "hidden": True}, {"_id": "2", "name": "x", "open": 1}, name="posts")
    assert seen(stream) == ("posts", "2", 0, None)


def test_a_query_in_a_transaction_finds_what_it_would_outside(db: Database) -> None:
    """The same language in both places."""
    db.create(*({"_id": str(number), "name": str(number), "n": number} for number in range(5)))
    transaction = Transaction(db.caller)
    query = json.dumps({"ands": [where("n", 2, 2)], "limit": 1}).encode()
    assert [json.loads(one)["_id"] for one in transaction.ask("Find", queryJSON=query).instances] == ["3"]
    assert transaction.end() == ("OK", "")
