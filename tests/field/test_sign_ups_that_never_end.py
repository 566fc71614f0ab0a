"""A stranger asks for hundreds of sign-ups and follows no link; people go on signing in, and up from elsewhere.

Reported: 300 anonymous sign-ups filled one table, and nobody could sign *in* for half an hour.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.keyring import HUB
from support.waiting import eventually

from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.context import confirmations
from bucketfs.hub.context.confirmations import WAITING_MAX, WAITING_PER_NAME, WAITING_PER_PEER, Confirmations
from bucketfs.hub.rpc.admission import peer_of
from bucketfs.hub.rpc.service import Call
from bucketfs.hub.rpc.status import Status
from bucketfs.hub.services.accounts import create_developer
from bucketfs.wire import hub_pb2 as pb


class Links(list[str]):
    """What a hub announces."""

    def secret(self, of: str) -> str | None:
        """The last part of the latest link of somebody."""
        found = [line for line in self if f" of {of}: " in line]
        return found[-1].rpartition("/")[2] if found else None


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
def hub(tmp_path: Path, links: Links) -> Iterator[HubServer]:
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", gateway_listen="", announce=links.append)
    with HubServer(config) as server:
        yield server


def sign_up(caller: Caller, name: str) -> Any:
    return caller.start(HUB, "Signup", pb.SignupRequest(username=name, email=f"{name}@example.org"), timeout_s=60)


def sign_in(caller: Caller, name: str) -> Any:
    return caller.start(HUB, "Signin", pb.SigninRequest(username_or_email=name), timeout_s=60)


def finished(hub: HubServer, links: Links, call: Any, name: str) -> bool:
    """Whether somebody gets a session once the link was followed."""
    eventually(lambda: links.secret(name) is not None or call.done(), f"{name} is sent a link")
    secret = links.secret(name)
    return secret is not None and hub.hub.confirmations.confirm(secret) == 1 and len(call.result().session) == 72


def test_a_flood_of_sign_ups_locks_nobody_out(hub: HubServer, links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stranger could keep all people from signing in, or have the Hub send hundreds of mails."""
    create_developer(hub.hub, "bob", "bob@example.org")
    with grpc.insecure_channel(hub.address) as channel, grpc.insecure_channel(hub.address) as other:
        flood = [sign_up(Caller(channel), f"no{number}") for number in range(300)]
        eventually(lambda: sum(call.done() for call in flood) >= 300 - WAITING_PER_PEER, "most of them had to go")
        assert {call.code().name for call in flood if call.done()} == {"RESOURCE_EXHAUSTED"}
        assert finished(hub, links, sign_in(Caller(other), "bob"), "bob")
        # It has not had so many links sent either.
        assert len(links) == WAITING_PER_PEER + 1
        # A while later also at the address of the flood, which is that of a proxy perhaps.
        monkeypatch.setattr(confirmations, "DWELL_S", 0.0)
        assert finished(hub, links, sign_up(Caller(other), "carol"), "carol")
        for call in flood:
            call.cancel()


def test_a_flood_of_sign_ins_for_one_name_is_in_the_way_of_no_other(hub: HubServer, links: Links) -> None:
    """Anyone could keep another person from signing in by asking in the name of a third."""
    for name in ("bob", "carol"):
        create_developer(hub.hub, name, f"{name}@example.org")
    with grpc.insecure_channel(hub.address) as channel:
        caller = Caller(channel)
        carol = sign_in(caller, "carol")
        eventually(lambda: links.secret("carol") is not None, "carol waits")
        flood = [sign_in(caller, "bob") for _ in range(100)]
        eventually(lambda: sum(call.done() for call in flood) == 100 - WAITING_PER_NAME, "a few are left")
        assert len(links) == 1 + WAITING_PER_NAME
        assert finished(hub, links, carol, "carol")
        for call in flood:
            call.cancel()


class From:
    """A call from some address that waits until its hub lets it go."""

    def __init__(self, peer: str) -> None:
        self.call = Call(peer=peer)

    def on_end(self, _callback: Callable[[], None]) -> bool:
        return True

    def check_active(self) -> None:
        """It is."""


def test_who_fills_the_places_has_to_go_first(tmp_path: Path, links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who waits for their mail would be dropped in favour of a flood."""
    monkeypatch.setattr(confirmations, "DWELL_S", 0.0)
    waiting = Confirmations(HubConfig(data=tmp_path, announce=links.append))
    ended: list[str] = []
    lock = threading.Lock()

    def ask(peer: str, name: str) -> None:
        how = "confirmed"
        try:
            waiting.ask("sign-up", name, From(peer))  # type: ignore[arg-type]
        except Status as status:
            how = status.code.name
        with lock:
            ended.append(f"{name} {how}")

    def more_than(count: int) -> bool:
        return len(links) > count

    with ThreadPoolExecutor(2 * WAITING_MAX) as pool:
        try:
            for peer, count in (
                ("early", 1),
                *((f"a{n}", WAITING_PER_PEER) for n in range(WAITING_MAX // WAITING_PER_PEER)),
            ):
                for number in range(count):
                    before = len(links)
                    pool.submit(ask, peer, f"{peer}-{number}")
                    eventually(functools.partial(more_than, before), "it waits")
            # One too many by now, and it was not the one who came first and fills nothing.
            eventually(lambda: bool(ended), "one has to go")
            assert ended == ["a0-0 RESOURCE_EXHAUSTED"]
            secret = links.secret("early-0")
            assert secret is not None and waiting.confirm(secret) == 1
            eventually(lambda: "early-0 confirmed" in ended, "it is let go")
        finally:
            waiting.close()


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:%5B::1%5D:5000", "::/64"),
        ("ipv6:[2001:db8:1:2:3::4]:5000", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::9%5D:80", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("unix:/run/hub.sock", "unix"),
        ("unix:", "unix"),
    ],
)
def test_addresses(text: str, peer: str) -> None:
    """A stranger with one IPv6 network would count as millions of strangers, or two people as one."""
    assert peer_of(text) == peer
