"""Textile's own JavaScript client (npm ``@textile/hub``) against our Hub, in Node, over its WebSockets."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller

from bucketfs.hub import HubConfig, HubServer
from bucketfs.wire import hub_pb2

HERE = Path(__file__).parent / "js"
HUB = "api.hubd.pb.APIService"


@dataclass
class App:
    """A developer's app: a user group key, and scripts that use it."""

    server: HubServer
    key: Any

    def run(self, script: str) -> Any:
        """What a script printed: the JSON of what it saw."""
        venv = Path(__file__).parents[2] / ".venv/bin"
        done = subprocess.run(
            ["node", script, f"http://{self.server.config.web_listen}", self.key.key, self.key.secret],
            cwd=HERE,
            # A wheel's Node is in the environment; the machine's own comes first.
            env=os.environ | {"PATH": f"{os.environ['PATH']}:{venv}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("javascript") / "hub"
    config = HubConfig(folder, "127.0.0.1:0", auto_confirm=True, gateway_listen="127.0.0.1:0", web_listen="127.0.0.1:0")
    with HubServer(config) as server, grpc.insecure_channel(server.address) as channel:
        caller = Caller(channel)
        session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="dev", email="dev@example.org")).session
        request = hub_pb2.CreateKeyRequest(type="KEY_TYPE_USER", secure=True)
        yield App(server, caller.using(x_textile_session=session).call(HUB, "CreateKey", request).key_info)


def test_a_users_bucket(app: App) -> None:
    """An app in a browser makes a bucket for its user, fills it, shares it, and finds all of it again."""
    seen = app.run("buckets.js")
    assert seen["again"] and seen["same"]
    assert seen["names"] == ["b.bin", "ä ☃.txt"]
    assert seen["top"] == [".textileseed", "c.bin"]
    assert seen["roles"] == 2
    assert seen["listed"] == ["photos"]
    assert "no link named" in seen["missing"]
    with urllib.request.urlopen(seen["links"]["url"], timeout=30) as page:
        assert page.read() == b"\7" * 300_000
    rows = app.server.hub.database.bucket_with_key(seen["key"])
    assert rows.name == "photos"


def test_a_users_database(app: App) -> None:
    """Collections, queries, transactions and listeners do what the client's documents say."""
    seen = app.run("threads.js")
    # Without the zero, as the original shows a schema.
    assert seen["info"]["schema"]["properties"]["missions"] == {"type": "number"}
    assert seen["info"]["indexes"] == [{"path": "name", "unique": True}]
    assert seen["found"] == ["Neil"]
    assert seen["many"] == ["Neil", "Buzz"]
    assert (seen["missions"], seen["has"]) == (3, True)
    assert "unique constraint violation" in seen["unique"]
    assert (seen["inside"], seen["after"]) == (False, True)
    created = [["CREATE", "Buzz"], ["CREATE", "Neil"], ["SAVE", "Buzz"], ["CREATE", "Mike"], ["DELETE", None]]
    assert seen["events"] == created
    assert (seen["collections"], seen["left"]) == (["astronauts"], 0)
    assert seen["address"] >= 1
    assert seen["threads"] == ["space"] and seen["thread"]
    assert seen["gone"] == 0


def test_users_write_to_each_other(app: App) -> None:
    """A message reaches the other user's mailbox, sealed, once; both find it again, and its events are heard."""
    seen = app.run("mail.js")
    assert "mail not found" in seen["nowhere"]
    assert seen["again"]
    assert seen["order"] == ["second", "first"]
    assert seen["text"] == seen["own"] == "hello ☃"
    assert (seen["from"], seen["sentbox"]) == (True, 2)
    assert sorted(seen["read"]) == [False, True]
    assert seen["page"] == [True]
    assert len(seen["events"]) == 4
    assert seen["left"] == [1, 1]
