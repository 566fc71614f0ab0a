"""Clocks that differ, on either side: a refusal for the date of a signature names the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from bucketfs.client import Channel, Credentials, Endpoint, HubClient, behind_text, connect
from bucketfs.client.hub_clock import hub_time
from bucketfs.client.status_errors import BAD_SIGNATURE, Failure, error_of
from bucketfs.dag import multibase_encode
from bucketfs.errors import HubError, Unauthenticated
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import SIGNATURE_LIFETIME, KeyType, api_signature, signature_message
from bucketfs.wire import hub_pb2

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HUB = hub_pb2.DESCRIPTOR.services_by_name["APIService"]


def clock(shift: timedelta) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + shift


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (timedelta(seconds=30), ""),
        (timedelta(seconds=-119), ""),
        (timedelta(minutes=14, seconds=10), "this machine's clock is 14 min behind the Hub's"),
        (timedelta(minutes=-14), "this machine's clock is 14 min ahead of the Hub's"),
        (timedelta(minutes=119), "this machine's clock is 119 min behind the Hub's"),
        (timedelta(minutes=150), "this machine's clock is 2 h 30 min behind the Hub's"),
        (timedelta(hours=3), "this machine's clock is 3 h behind the Hub's"),
        (timedelta(days=-400), "this machine's clock is 400 days ahead of the Hub's"),
    ],
)
def test_words(behind: timedelta, said: str) -> None:
    """The user reads how far the clock is off in words, and nothing when it is right enough."""
    assert behind_text(behind) == said


def test_what_tells_the_time() -> None:
    """The Hub's clock is only believed where a text gives a moment with its zone."""
    assert hub_time([("bucketfs-time", "2026-03-01T12:00:00Z"), ("date", "Sun, 01 Mar 2026 13:00:00 GMT")]) == NOON
    assert hub_time([("other", "x"), ("date", "Sun, 01 Mar 2026 12:00:00 GMT")]) == NOON
    assert hub_time([]) is None
    for nonsense in ("", "yesterday", "2026-03-01T12:00:00", "9" * 40):
        assert hub_time([("bucketfs-time", nonsense)]) is None
        assert hub_time([("date", nonsense)]) is None


def test_a_proxys_date_is_taken_for_the_reason_only_if_it_can_be_it() -> None:
    """A refused signature is put down to the clock only where the clock can be the reason."""

    def said(minutes: int) -> str:
        date = (NOON + timedelta(minutes=minutes)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return str(error_of(Failure("UNAUTHENTICATED", BAD_SIGNATURE, [("date", date)]), "Root", NOON))

    assert said(70) == "Root: the signature has expired: this machine's clock is 70 min behind the Hub's"
    # Half an hour behind what we sign still holds: the secret is wrong.
    assert said(30) == said(-70) == f"Root: {BAD_SIGNATURE}"
    # And of a Hub that says nothing nothing is made up.
    assert str(error_of(Failure("UNAUTHENTICATED", BAD_SIGNATURE), "Root", NOON)) == f"Root: {BAD_SIGNATURE}"


@pytest.mark.parametrize("side", ["ours", "the Hub's"])
@pytest.mark.parametrize("hours", [2, -2])
async def test_a_clock_is_named(tmp_path: Path, side: str, hours: int) -> None:
    """A Hub that is two hours ahead refuses what we sign; one that is behind does not, and is shown."""
    shift = timedelta(hours=hours)
    ahead = shift if side == "the Hub's" else timedelta(0)
    now = clock(-shift if side == "ours" else timedelta(0))
    config = HubConfig(data=tmp_path / "hub", listen=f"unix:{tmp_path}/hub.sock", auto_confirm=True)
    hub = HubServer(config, now_ns=lambda: time.time_ns() + round(ahead.total_seconds()) * 10**9)
    with hub:
        endpoint = Endpoint.parse(hub.address)
        async with Channel(endpoint, Credentials) as channel:
            session = await HubClient(channel).signup("alice", "alice@example.org")
        async with Channel(endpoint, lambda: Credentials(session=session), now=now) as channel:
            made = await HubClient(channel).create_key(KeyType.ACCOUNT, secure=True)
            assert channel.behind is not None
            assert abs(channel.behind - shift) < timedelta(seconds=30)
        key = Credentials(api_key=made.key, api_secret=made.secret)
        if hours > 0:
            async with Channel(endpoint, lambda: key, now=now) as channel:
                with pytest.raises(
                    Unauthenticated, match=r"expired: this machine's clock is 2 h behind the Hub's$"
                ) as caught:
                    await HubClient(channel).keys()
            assert caught.value.hint == "set the clock that is wrong; NTP keeps both right"
            with pytest.raises(Unauthenticated, match="2 h behind the Hub's"):
                async with connect(endpoint, lambda: key, now=now):
                    pass
        else:
            async with connect(endpoint, lambda: key, now=now) as connection:
                assert await connection.blocks.get([]) == {}
                assert behind_text(connection.channel.behind or timedelta(0)) == (
                    "this machine's clock is 2 h ahead of the Hub's"
                )


async def test_a_stream_that_is_refused_names_it_too(hub: HubServer, developer: Credentials) -> None:
    """A read that is refused for a wrong clock says so, too."""
    async with connect(Endpoint.parse(hub.address), lambda: developer) as connection:
        made = await connection.buckets.create("mine")
        thread = connection.thread
    late = clock(-timedelta(hours=26))
    async with connect(Endpoint.parse(hub.address), lambda: developer, recalled=thread, now=late) as connection:
        with pytest.raises(Unauthenticated, match="26 h behind the Hub's"):
            await connection.blocks.get([made.root])


async def test_a_signature_of_elsewhere_that_is_over_is_no_matter_of_clocks(hub: HubServer, developer: Credentials) -> None:
    """The user of an expired signature is not sent to set a clock that is right."""
    signed = signature_message(datetime.now(UTC) - SIGNATURE_LIFETIME - timedelta(minutes=5))
    given = Credentials(
        api_key=developer.api_key, api_sig=multibase_encode(api_signature(developer.api_secret, signed)), api_sig_msg=signed
    )
    async with Channel(Endpoint.parse(hub.address), lambda: given) as channel:
        with pytest.raises(Unauthenticated, match=r"Bad API key signature \(the signed date passed 30\d s ago"):
            await HubClient(channel).keys()


async def test_details_of_other_refusals_are_told(hub: HubServer, developer: Credentials) -> None:
    """The reasons that share one text of the protocol are told apart."""
    for credentials, said in (
        (Credentials(api_key="bnone"), "no such API key on this hub"),
        (Credentials(api_key=developer.api_key), "x-textile-api-sig is missing"),
        (Credentials(api_key=developer.api_key, api_secret="bme"), "the signature is not the secret's over this date"),
    ):
        async with Channel(Endpoint.parse(hub.address), partial(replace, credentials)) as channel:
            with pytest.raises(HubError, match=said):
                await HubClient(channel).keys()


async def test_a_plain_hub_says_nothing_of_clocks(tiny_hub: Any) -> None:
    """At a Hub that tells no time nothing is claimed about clocks."""

    def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, BAD_SIGNATURE)

    def answer(_request: Any, _context: grpc.ServicerContext) -> Any:
        return hub_pb2.ListOrgsResponse()

    tiny_hub.serve(HUB, ListKeys=refuse, ListOrgs=answer)
    async with tiny_hub.channel() as channel:
        client = HubClient(channel)
        assert await client.orgs() == []
        assert channel.behind is None
        with pytest.raises(Unauthenticated, match=f": {BAD_SIGNATURE}$"):
            await client.keys()


async def test_a_proxy_says_the_date_in_the_headers(tiny_hub: Any) -> None:
    """Behind a web proxy a wrong clock is found by its date."""

    def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
        date = (datetime.now(UTC) + timedelta(hours=5)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        context.send_initial_metadata((("date", date),))
        context.abort(grpc.StatusCode.UNAUTHENTICATED, BAD_SIGNATURE)

    tiny_hub.serve(HUB, ListKeys=refuse)
    async with tiny_hub.channel() as channel:
        with pytest.raises(Unauthenticated, match="5 h behind the Hub's"):
            await HubClient(channel).keys()


async def test_warnings_are_told_once(hub: HubServer, developer: Credentials, caplog: pytest.LogCaptureFixture) -> None:
    """A warning of the Hub is shown, and not with every call."""
    endpoint = Endpoint.parse(hub.address)
    async with connect(endpoint, lambda: developer) as connection:
        with caplog.at_level(logging.WARNING, "bucketfs.client"):
            await connection.blocks.holdings()
            assert connection.channel.warnings == []
            made = await connection.hub.create_key(KeyType.ACCOUNT, secure=False)
            await connection.hub.create_key(KeyType.ACCOUNT, secure=False)
    said = "this key needs no signature: anyone who sees it can use it"
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("bucketfs.client")]
    assert lines == [f"the Hub {endpoint} says: {said}"]
    assert connection.channel.warnings == [said]
    caplog.clear()
    # Users of such a key are told, too.
    async with connect(endpoint, lambda: Credentials(api_key=made.key)) as connection:
        for _ in range(3):
            await connection.blocks.holdings()
        assert connection.channel.warnings == [said]
    assert made.key not in caplog.text
