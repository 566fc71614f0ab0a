"""Functions of strangers: what they may do, what they may not, and that one of them harms no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bucketfs.errors import Denied, Unavailable
from bucketfs.hub.threaddb import ScriptFailed, Scripts

LANE = "owner"
EVENT: dict[str, Any] = {"timestamp": 1, "_id": "e", "collection_name": "notes", "patch": {"type": "create"}}
ENDLESS = (
    "while (true) {}",
    "for (;;) { try { while (true) {} } catch (error) {} }",
    "/^(a+)+$/.test(new Array(60).join('a') + 'b')",
    "[].sort.call({length: 4294967295})",
    "return new Array(100000000).join('x').length > 0",
    "return {toString: function () { while (true) {} }}",
)
HUGE = (
    "var all = []; while (true) all.push(new Array(10000).join('x'))",
    "var text = 'x'; while (true) text += text",
    "return new Uint8Array(1073741824)[0] === 0",
    "function again() { return again() + 1 } return again()",
    "return JSON.parse(new Array(1000000).join('[')) === 1",
)
TRICKS = (
    "require('fs')",
    "process.exit(0)",
    "std.exit(0)",
    "os.exec(['true'])",
    "import('fs')",
    "return fetch('http://127.0.0.1')",
    "this.constructor.constructor('return process')().exit()",
    "}); evil(); (function () {",
)


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    made = Scripts(time_s=0.2)
    yield made
    made.close()


def allowed(scripts: Scripts, body: str, writer: str | None = "w", instance: dict[str, Any] | None = None) -> str:
    """The denial, or ``""``."""
    try:
        scripts.validate(body, writer, EVENT, instance, lane=LANE)
    except Denied as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("return true", ""),
        ("return false", "app denied net record body"),
        ("return null", "app denied net record body"),
        ("", "app denied net record body"),
        ("return 'not yours'", "app denied net record body: not yours"),
        ("return 1", "app denied net record body: 1"),
        ("return 'true'", "app denied net record body: true"),
        ("throw new Error('broken')", "app denied net record body: Error: broken"),
        ("return writer === 'w'", ""),
        ("return event.patch.type === 'create' && event.collection_name === 'notes'", ""),
        ("return instance === undefined", ""),
    ],
)
def test_a_validator_decides_and_says_why(scripts: Scripts, body: str, answer: str) -> None:
    """Clients compare these texts; a wrong one shows a user another reason, or lets a stranger write."""
    assert allowed(scripts, body) == answer


def test_a_writer_without_a_key_and_a_stored_instance(scripts: Scripts) -> None:
    """A rule over the stored instance must see it, and an unknown writer must not look like one with a name."""
    assert allowed(scripts, "return writer === undefined", writer=None) == ""
    stored = {"_id": "1", "text": "it's a \\ \u2028 \ud83d\ude00", "deep": {"list": [1, 2]}}
    body = 'return instance.text === "it\'s a \\\\ \\u2028 \\ud83d\\ude00" && instance.deep.list[1] === 2'
    assert allowed(scripts, body, instance=stored) == ""


def test_a_filter_shows_changes_and_hides(scripts: Scripts) -> None:
    """A reader must see just what the owner's filter shows, in the order of the instances."""
    body = "if (instance.secret && reader !== 'me') return null; delete instance.inner; return instance"
    instances: list[dict[str, Any]] = [{"_id": "1", "inner": 2}, {"_id": "2", "secret": True}, {"_id": "3"}]
    assert scripts.filter(body, "you", instances, lane=LANE) == [{"_id": "1"}, None, {"_id": "3"}]
    assert scripts.filter(body, "me", instances, lane=LANE)[1] == {"_id": "2", "secret": True}
    assert scripts.filter("return instance", None, [], lane=LANE) == []


def test_nanoseconds_pass_a_filter_unharmed(scripts: Scripts) -> None:
    """A time of 19 digits is no double: what a filter leaves alone must not come back rounded."""
    stored = {"_id": "1", "_mod": 1796123194354558123, "list": [2**63 + 1, 0.1], "no": 10**400, "yes": True}
    assert scripts.filter("return instance", None, [stored], lane=LANE) == [stored | {"no": None}]
    changed = scripts.filter("instance._mod = 5; return instance", None, [stored], lane=LANE)[0]
    assert changed is not None
    assert changed["_mod"] == 5


@pytest.mark.parametrize("body", ["return 1", "return [instance]", "return 'text'", "throw new Error('no')", "return {"])
def test_a_filter_that_makes_no_object_fails(scripts: Scripts, body: str) -> None:
    """The find fails with a reason rather than show something that is no instance."""
    with pytest.raises(ScriptFailed):
        scripts.filter(body, None, [{"_id": "1"}], lane=LANE)


@pytest.mark.parametrize("body", ENDLESS)
def test_an_endless_function_ends(scripts: Scripts, body: str) -> None:
    """A stranger's endless loop must end, be told so, and leave the next function alone."""
    assert "ran for more than" in allowed(scripts, body)
    assert allowed(scripts, "return true") == ""


@pytest.mark.parametrize("body", HUGE)
def test_a_function_that_wants_all_memory_fails(scripts: Scripts, body: str) -> None:
    """The Hub must not grow with what a stranger's function asks for."""
    assert allowed(scripts, body).startswith("app denied net record body: ")
    assert allowed(scripts, "return true") == ""


@pytest.mark.parametrize("body", TRICKS)
def test_a_function_reaches_nothing_outside(scripts: Scripts, body: str) -> None:
    """A function that looks for files, processes or the network finds none."""
    assert allowed(scripts, body).startswith("app denied net record body")
    assert allowed(scripts, "return true") == ""


def test_nothing_is_left_for_the_next_function(scripts: Scripts) -> None:
    """A function that changes JSON or Object.prototype must not change what another one sees."""
    poison = "JSON.parse = function () { return {mine: 1} }; Object.prototype.mine = 1; leaked = instance; return true"
    assert allowed(scripts, poison, instance={"_id": "secret"}) == ""
    clean = "return typeof leaked === 'undefined' && ({}).mine === undefined && instance._id === 'other'"
    assert allowed(scripts, clean, instance={"_id": "other"}) == ""


def test_a_function_is_checked_when_it_is_given(scripts: Scripts) -> None:
    """A typing error is told when the collection is made, not at the first write."""
    scripts.check("return true", lane=LANE)
    for body in ("return (", "}", "x" * 100_000):
        with pytest.raises(ScriptFailed):
            scripts.check(body, lane=LANE)


def test_slow_functions_of_one_owner_leave_room_for_another() -> None:
    """One account's endless loops must not keep the functions of other accounts waiting."""
    scripts = Scripts(time_s=0.5, processes_max=2)
    busy = [threading.Thread(target=lambda: scripts.filter("return instance", None, [{}], lane="kind")) for _ in range(1)]

    def loop() -> None:
        with pytest.raises(Denied):
            scripts.validate("while (true) {}", None, EVENT, None, lane="slow")

    slow = [threading.Thread(target=loop) for _ in range(4)]
    for thread in slow:
        thread.start()
    for thread in busy:
        thread.start()
        thread.join()
    assert any(thread.is_alive() for thread in slow)
    for thread in slow:
        thread.join()
    scripts.close()


def test_a_hub_that_stops_ends_the_processes() -> None:
    """No process may stay behind, and a late call hears why it fails."""
    scripts = Scripts(time_s=0.2)
    scripts.check("return true", lane=LANE)
    process = scripts._idle[0]._process
    scripts.close()
    assert process.poll() is not None
    with pytest.raises(Unavailable):
        scripts.check("return true", lane=LANE)


def test_a_process_whose_hub_was_killed_ends(scripts: Scripts) -> None:
    """A Hub that is killed leaves no process: each ends when its parent's socket does, also inside a loop."""
    own = Scripts(time_s=0.2)
    own.check("return true", lane=LANE)
    left = own._idle.pop()
    left._socket.close()
    deadline = time.monotonic() + 10
    while left._process.poll() is None and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert left._process.poll() is not None
    own.close()
