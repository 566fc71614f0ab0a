"""ThreadDB as a client sees it: collections, instances, queries, indexes, functions, over real gRPC. The texts are compared by
JavaScript and Go clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.bareclient import Caller
from support.databaseuser import DB, THREADS, Database, config, encoded, where

from bucketfs.hub import HubServer
from bucketfs.keys import public_key_of
from bucketfs.wire import hub_pb2, threads_pb2

pb: Any = threads_pb2
NAME_TEXT = "name may only contain alphanumeric characters or non-consecutive hyphens, and cannot begin or end with a hyphen"
SCHEMA = {
    "type": "object",
    "properties": {
        "_id": {"type": "string"},
        "name": {"type": "string"},
        "age": {"type": "number"},
        "home": {"type": "object", "properties": {"city": {"type": "string"}}},
        "tags": {"type": "array"},
    },
    "required": ["name"],
}


@pytest.fixture
def db(alice: Caller) -> Database:
    alice.call(THREADS, "NewDB", pb.NewDBRequest(dbID=DB, collections=[config("people", SCHEMA)]))
    return Database(alice)


def test_an_instance_is_made_saved_read_and_deleted(db: Database) -> None:
    """What a program stores comes back, with an id and the time of its last change."""
    (made,) = db.create({"name": "ann", "age": 5})
    assert len(made) == 26 and made == made.lower()
    first = db.get(made)
    assert {**first, "_mod": 0} == {"_id": made, "name": "ann", "age": 5, "_mod": 0}
    db.save({**first, "age": 6})
    second = db.get(made)
    assert second["age"] == 6 and second["_mod"] > first["_mod"] > 10**18
    assert db.ask("Has", collectionName="people", instanceIDs=[made]).exists
    assert not db.ask("Has", collectionName="people", instanceIDs=[made, "other"]).exists
    db.save({"_id": "new", "name": "bob"})
    assert db.names() == "annbob"
    db.delete(made, "unknown", "new")
    assert db.find() == []
    assert db.refused("FindByID", collectionName="people", instanceID=made) == ("UNKNOWN", "instance not found")


def test_what_cannot_be_stored_says_why_and_changes_nothing(db: Database) -> None:
    """A call that fails in its second instance must not leave the first one behind."""
    db.create({"_id": "a", "name": "ann"})
    taken = db.refused("Create", collectionName="people", instances=encoded([{"name": "x"}, {"_id": "a", "name": "y"}]))
    assert taken == ("UNKNOWN", "can't create already existing instance")
    wrong = db.refused("Create", collectionName="people", instances=encoded([{"name": "x"}, {"age": "old"}]))
    why = "(root): name is required; age: Invalid type. Expected: number, given: string"
    assert wrong[0] == "UNKNOWN"
    assert sorted(wrong[1].removeprefix("instance doesn't correspond to schema: ").split("; ")) == sorted(why.split("; "))
    twice = db.refused("Create", collectionName="people", instances=encoded([{"_id": "b", "name": "x"}] * 2))
    assert twice == ("UNKNOWN", "cant't create already existent instance")
    nameless = db.refused("Save", collectionName="people", instances=encoded([{"name": "x"}]))
    assert nameless == ("UNKNOWN", "invalid instance: missing _id attribute")
    assert db.refused("Verify", collectionName="people", instances=encoded([{"_id": "a"}]))[0] == "UNKNOWN"
    db.ask("Verify", collectionName="people", instances=encoded([{"_id": "a", "name": "other"}]))
    assert db.names() == "ann"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"name": NaN}',
        b'{"name": "x", "age": 1e999}',
        b'{"name": "x", "age": ' + b"9" * 400 + b"}",
        b'{"name": "x", "tags": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"name": "x", "tags": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"_id": 5, "name": "x"}',
        b'{"_id": "\\u0000", "name": "x"}',
        b'{"_id": "\\ud800", "name": "x"}',
        b'{"_id": "' + b"x" * 2000 + b'", "name": "x"}',
    ],
)
def test_nonsense_is_refused(db: Database, data: bytes) -> None:
    """Bytes that are no instance get an error that says so, and nothing else of the Hub notices."""
    code, text = db.refused("Create", collectionName="people", instances=[data])
    assert (code, text.startswith("invalid instance")) == ("UNKNOWN", True)
    assert db.find() == []


def test_odd_text_and_numbers_are_kept(db: Database) -> None:
    """Half a surrogate pair, NUL in a text, and integers beyond a double's come back as they were."""
    odd = {"name": "\ud800 \0 \u2028 ☃", "tags": [2**60 + 1, -0.0, 1e300, None, {"": ""}]}
    (made,) = db.create(odd)
    found = db.get(made)
    assert {name: found[name] for name in odd} == odd
    assert json.dumps(found["tags"]) == json.dumps(odd["tags"])


def test_collections_come_and_go(db: Database) -> None:
    """A definition can be read back, changed and deleted, and its instances go with it."""
    db.define(
        "notes", {"properties": {"n": {"type": "number", "minimum": 0}}}, indexes=[("n", True)], readFilter="return instance"
    )
    info = db.ask("GetCollectionInfo", name="notes")
    assert json.loads(info.schema) == {"properties": {"n": {"type": "number"}}}
    assert [(one.path, one.unique) for one in info.indexes] == [("n", True)]
    assert (info.readFilter, info.writeValidator) == ("return instance", "")
    assert [one.name for one in db.ask("ListCollections").collections] == ["notes", "people"]
    assert [one.path for one in db.ask("GetCollectionIndexes", name="notes").indexes] == ["n"]
    assert db.refused("NewCollection", config=config("notes")) == ("UNKNOWN", "collection already registered")
    db.create({"n": 1}, name="notes")
    db.ask("DeleteCollection", name="notes")
    assert db.refused("DeleteCollection", name="notes") == ("UNKNOWN", "collection not found")
    assert db.refused("GetCollectionInfo", name="notes") == ("NOT_FOUND", "collection not found")
    assert db.refused("UpdateCollection", config=config("notes")) == ("UNKNOWN", "collection not found")
    assert db.refused("Find", collectionName="notes", queryJSON=b"{}") == ("NOT_FOUND", "collection not found")
    db.define("notes")
    assert db.find("notes") == []


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (config("a b"), NAME_TEXT),
        (config("x" * 300), NAME_TEXT),
        (config("x", {"properties": {"_id": {"type": "number"}}}), "the collection schema _id property must be a string"),
        (config("x", SCHEMA, indexes=[("_id", False)]), "cannot create custom index on _id"),
        (config("x", SCHEMA, indexes=[("none", False)]), "collection schema does not contain path"),
        (config("x", SCHEMA, indexes=[("home", False)]), "value not indexable"),
        (config("x", SCHEMA, indexes=[("tags", False)]), "value not indexable"),
        (config("buckets"), "collection already registered"),
        (pb.CollectionConfig(name="x"), "the collection schema is not JSON"),
    ],
)
def test_a_definition_that_makes_no_sense(db: Database, made: Any, text: str) -> None:
    """A mistake is told when the collection is made."""
    assert db.refused("NewCollection", config=made) == ("UNKNOWN", text)


def test_a_function_that_is_none_is_refused(db: Database) -> None:
    """A typing error in a validator must not be found out at the first write."""
    code, text = db.refused("NewCollection", config=config("x", writeValidator="return ("))
    assert (code, "SyntaxError" in text) == ("UNKNOWN", True)


QUERIES: list[tuple[dict[str, Any], str]] = [
    ({}, "abcd"),
    ({"ands": [where("age", 0, 2)]}, "b"),
    ({"ands": [where("age", 1, 2)]}, "acd"),
    ({"ands": [where("age", 2, 2)]}, "cd"),
    ({"ands": [where("age", 3, 2)]}, "a"),
    ({"ands": [where("age", 4, 2)]}, "bcd"),
    ({"ands": [where("age", 5, 2)]}, "ab"),
    ({"ands": [where("home.city", 0, "x")]}, "ac"),
    ({"ands": [where("home.city", 2, "x"), where("age", 2, 3)]}, "d"),
    ({"ands": [where("_id", 0, "2")]}, "b"),
    ({"ands": [where("_id", 2, "2")]}, "cd"),
    ({"ands": [where("age", 0, 1)], "ors": [{"ands": [where("age", 0, 4)]}]}, "ad"),
    ({"sort": {"fieldPath": "age", "desc": True}}, "dcba"),
    ({"sort": {"fieldPath": "home.city"}}, "acbd"),
    ({"sort": {"fieldPath": "home.city", "desc": True}}, "bdac"),
    ({"sort": {"fieldPath": "home.city", "desc": True}, "limit": 1}, "b"),
    ({"sort": {"fieldPath": "age", "desc": True}, "skip": 1, "limit": 2}, "cb"),
    ({"sort": {"fieldPath": "_id", "desc": True}, "seek": "3"}, "cba"),
    ({"seek": "3"}, "cd"),
    ({"skip": 1, "limit": 2}, "bc"),
    ({"ands": [where("age", 2, 1)], "limit": 1}, "b"),
    ({"Ands": [{"FieldPath": "age", "Operation": 4, "Value": {"Float": 3, "String": None}}], "Ors": None, "Limit": 0}, "cd"),
]


@pytest.mark.parametrize("indexes", [(), (("age", True), ("home.city", False))])
def test_queries_find_the_same_with_and_without_indexes(db: Database, indexes: Any) -> None:
    """An index makes a query quick and must not change what it finds."""
    db.ask("UpdateCollection", config=config("people", SCHEMA, indexes=indexes))
    people = [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "x"), ("d", 4, "y")]
    db.create(*({"_id": str(age), "name": name, "age": age, "home": {"city": city}} for name, age, city in people))
    for query, found in QUERIES:
        assert db.names(**query) == found, query


@pytest.mark.parametrize("indexes", [(), (("age", False),)])
def test_a_query_for_a_field_that_not_all_have_fails(db: Database, indexes: Any) -> None:
    """As in the original: the program hears that its data does not fit its question."""
    db.ask("UpdateCollection", config=config("people", SCHEMA, indexes=indexes))
    db.create({"_id": "1", "name": "a", "age": 1}, {"_id": "2", "name": "b"})
    for query in ({"ands": [where("age", 0, 1)]}, {"sort": {"fieldPath": "age"}}, {"index": "none"}):
        assert db.refused("Find", collectionName="people", queryJSON=json.dumps(query).encode())[0] == "UNKNOWN"


def test_a_unique_index_holds(db: Database) -> None:
    """Two accounts of one name must not come to be, also not by an index that is made later."""
    db.create({"_id": "1", "name": "a"}, {"_id": "2", "name": "a"})
    unique = config("people", SCHEMA, indexes=[("name", True)])
    assert db.refused("UpdateCollection", config=unique) == (
        "UNKNOWN",
        "can't create unique index (duplicate instances exist)",
    )
    db.delete("2")
    db.ask("UpdateCollection", config=unique)
    taken = db.refused("Create", collectionName="people", instances=encoded([{"name": "b"}, {"name": "a"}]))
    assert taken == ("UNKNOWN", "unique constraint violation")
    db.save({"_id": "1", "name": "c"}, {"_id": "3", "name": "a"})
    assert db.names() == "ca"
    assert db.refused("Save", collectionName="people", instances=encoded([{"_id": "3", "name": "c"}]))[0] == "UNKNOWN"
    long = {"name": "x" * 2000}
    assert db.refused("Create", collectionName="people", instances=encoded([long])) == ("UNKNOWN", "value not indexable")


def test_who_may_write_and_what_is_seen(db: Database, bob: Caller) -> None:
    """The owner's functions decide: a stranger writes only what they allow, and sees only what they show."""
    db.define(
        "posts",
        {},
        writeValidator="""
            var patch = event.patch.json_patch;
            if (event.patch.type === 'delete') return instance.author === writer;
            if (event.patch.type === 'create') return patch.author === writer ? true : 'not your name';
            return !('author' in patch) || 'the author stays';
        """,
        readFilter="if (instance.draft && instance.author !== reader) return null; delete instance.secret; return instance",
    )
    mine, other = public_key(db.caller), public_key(bob)
    stranger = Database(bob)
    db.create(
        {"_id": "1", "author": mine, "secret": 5, "text": "a"}, {"_id": "2", "author": mine, "draft": True}, name="posts"
    )
    wrong = stranger.refused("Create", collectionName="posts", instances=encoded([{"author": mine}]))
    assert wrong == ("UNKNOWN", "app denied net record body: not your name")
    stranger.create({"_id": "3", "author": other}, name="posts")
    assert [one["_id"] for one in stranger.find("posts")] == ["1", "3"]
    assert "secret" not in stranger.get("1", "posts")
    assert stranger.refused("FindByID", collectionName="posts", instanceID="2") == ("UNKNOWN", "instance not found")
    assert not stranger.ask("Has", collectionName="posts", instanceIDs=["2"]).exists
    # What a writer cannot see, a save leaves alone.
    stranger.save({**stranger.get("1", "posts"), "text": "b"}, name="posts")
    db.ask("UpdateCollection", config=config("posts", {}))
    assert db.get("1", "posts")["secret"] == 5 and db.get("1", "posts")["text"] == "b"


def public_key(caller: Caller) -> str:
    return public_key_of(caller.call("api.hubd.pb.APIService", "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).key)


def test_a_deleted_database_leaves_nothing_behind(db: Database, hub_server: HubServer) -> None:
    """Its bytes count against its owner no more, and a new database of the same id is empty."""
    db.create({"name": "x" * 10_000})
    account = public_key(db.caller)
    assert hub_server.hub.database.usage(account).bytes > 10_000
    db.ask("DeleteDB")
    assert hub_server.hub.database.usage(account).bytes == 0
    db.caller.call(THREADS, "NewDB", pb.NewDBRequest(dbID=DB, collections=[config("people", SCHEMA)]))
    assert db.find() == []


def test_instances_count_against_the_owners_bytes(start_hub: Any, dial: Any) -> None:
    """One account must not fill the database of all."""
    caller = dial(start_hub(account_bytes_max=10_000).address)
    session = caller.call("api.hubd.pb.APIService", "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    alice = caller.using(x_textile_session=session)
    alice.call(THREADS, "NewDB", pb.NewDBRequest(dbID=DB, collections=[config("people", SCHEMA)]))
    db = Database(alice)
    db.create({"_id": "1", "name": "x" * 6_000})
    full = db.refused("Create", collectionName="people", instances=encoded([{"name": "x" * 6_000}]))
    assert full[0] == "RESOURCE_EXHAUSTED"
    db.save({"_id": "1", "name": "x"})
    db.create({"name": "x" * 6_000})
