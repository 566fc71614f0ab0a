"""Every method of every service answers as docs/protocol.md says: offered, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from support.bareclient import Caller

from bucketfs.hub.services import SERVICES
from bucketfs.wire import threads_pb2

THREADS_NET, THREAD = "threads.net.pb.API", bytes.fromhex("0155") + bytes(32)
PAGE = Path(__file__).parents[2] / "docs/protocol.md"


def documented() -> Iterator[tuple[str, str, bool]]:
    """Service, method, and whether it is offered."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| `") else []
        if len(cells) == 3 and re.match(r"`[a-z.0-9]+\.[A-Z]\w*`", cells[0]):
            service = re.findall(r"`([^`]+)`", cells[0])[0]
            for cell, offered in ((cells[1], True), (cells[2], False)):
                for method in re.findall(r"`([A-Z]\w+)`", cell):
                    yield service, method, offered


METHODS = sorted(((service, method), offered) for service, method, offered in documented())


def test_the_page_names_every_method() -> None:
    """A method that is added or removed shows in the page."""
    named = {pair for pair, _ in METHODS}
    services = {service for service, _ in named if not service.startswith("grpc.")}
    there = {
        (service, method.name)
        for service in services
        for method in descriptor_pool.Default().FindServiceByName(service).methods
    }
    assert {pair for pair in named if not pair[0].startswith("grpc.")} == there
    assert len(services) == len(SERVICES)


@pytest.mark.parametrize(("pair", "offered"), METHODS)
def test_a_method_answers_as_the_page_says(alice: Caller, pair: tuple[str, str], offered: bool) -> None:
    """A client learns by the answer whether a method is there, and why not."""
    service, name = pair
    method = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)
    request: Any = message_factory.GetMessageClass(method.input_type)()
    if service == THREADS_NET and "threadID" in method.input_type.fields_by_name:
        # Whose thread it is is looked at before it is said that there are no peers.
        alice.call("threads.pb.API", "NewDB", threads_pb2.NewDBRequest(dbID=THREAD))
        request.threadID = THREAD
    given = iter([request]) if method.client_streaming else request
    try:
        answer = alice.call(service, name, given, timeout_s=30)
        text, code = "", "OK"
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        code, text = error.code().name, error.details()
    refused = code == "UNIMPLEMENTED" or "billing is not enabled" in text or text == "Method is not accessible"
    assert refused is not offered, (code, text)
    assert code != "INTERNAL"
