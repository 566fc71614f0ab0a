"""The server itself: where it listens, what it refuses, how calls end, what it logs, how it stops."""

from __future__ import annotations

import datetime
import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bucketfs import errors
from bucketfs.hub import HubConfig, HubServer, serve
from bucketfs.hub.config import Address
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.models import BucketRow, PathEntry, ThreadRow
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.hub.rpc.service import Service
from bucketfs.hub.rpc.status import Code, Status, status_of
from bucketfs.hub.services import SERVICES
from bucketfs.types import BucketKey, Cid, ThreadId
from bucketfs.wire import blocks_pb2 as blocks
from bucketfs.wire import hub_pb2

HUB = "api.hubd.pb.APIService"
BLOCKS = "bucketfs.v1.Blocks"


# Where it listens


@pytest.mark.parametrize(
    ("text", "shown", "local"),
    [
        ("127.0.0.1:3006", "127.0.0.1:3006", True),
        ("127.9.9.9:1", "127.9.9.9:1", True),
        (":3006", "127.0.0.1:3006", True),
        ("localhost:0", "localhost:0", True),
        ("[::1]:5", "[::1]:5", True),
        ("unix:/run/hub", "unix:/run/hub", True),
        ("0.0.0.0:3006", "0.0.0.0:3006", False),
        ("[::]:3006", "[::]:3006", False),
        ("hub.example.org:443", "hub.example.org:443", False),
        ("localhost.example.org:443", "localhost.example.org:443", False),
    ],
)
def test_addresses(text: str, shown: str, local: bool) -> None:
    """A Hub would take an address of the network for one of this machine, and serve it without encryption."""
    address = Address.parse(text)
    assert (address.text(), address.local) == (shown, local)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "unix:relative", "unix:/" + "x" * 107]
)
def test_what_is_no_address(text: str) -> None:
    """A mistyped address would end in a traceback, or the Hub would listen elsewhere."""
    with pytest.raises(errors.Usage):
        Address.parse(text)


def test_no_plaintext_beyond_this_machine(start_hub: Callable[..., HubServer]) -> None:
    """Keys would cross the network unencrypted, or strangers could sign in as anyone."""
    with pytest.raises(errors.Usage, match="without TLS"):
        start_hub(listen="0.0.0.0:0")
    with pytest.raises(errors.Usage, match="sign in as anyone"):
        start_hub(listen="0.0.0.0:0", plaintext=True)
    assert start_hub(listen="0.0.0.0:0", plaintext=True, auto_confirm=False).address.startswith("0.0.0.0:")


def test_tls(start_hub: Callable[..., HubServer], tmp_path: Path) -> None:
    """A Hub could not be served encrypted, or would start without saying that its key cannot be read."""
    certificate, key = make_certificate(tmp_path)
    with pytest.raises(errors.Usage, match="certificate and a key"):
        start_hub(tls_cert=certificate)
    with pytest.raises(errors.Usage, match="cannot read"):
        start_hub(tls_cert=certificate, tls_key=tmp_path / "none")
    server = start_hub(listen="0.0.0.0:0", tls_cert=certificate, tls_key=key, auto_confirm=False)
    port = server.address.rpartition(":")[2]
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert status.status == health_pb2.HealthCheckResponse.SERVING


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Socket paths have 107 bytes at most; pytest's folders may be longer."""
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        yield Path(folder)


def test_a_unix_socket(start_hub: Callable[..., HubServer], dial: Callable[[str], Any], short_folder: Path) -> None:
    """Other users of the machine could reach the Hub's socket, or a second Hub would take it away."""
    path = short_folder / "hub"
    server = start_hub(listen=f"unix:{path}")
    assert server.address == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    request = hub_pb2.IsUsernameAvailableRequest(username="free")
    dial(server.address).call(HUB, "IsUsernameAvailable", request)
    with pytest.raises(errors.Busy, match="another hub"):
        start_hub(listen=f"unix:{path}")
    dial(server.address).call(HUB, "IsUsernameAvailable", request)


def test_a_socket_in_no_folder(start_hub: Callable[..., HubServer], short_folder: Path) -> None:
    """An operator would read gRPC's internals instead of "its folder does not exist"."""
    with pytest.raises(errors.Usage, match="its folder does not exist"):
        start_hub(listen=f"unix:{short_folder}/none/hub")


def test_a_socket_that_a_dead_hub_left(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Any], short_folder: Path
) -> None:
    """After a kill the Hub would not start again, or would delete a file of the user."""
    path = short_folder / "hub"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = start_hub(listen=f"unix:{path}")
    dial(server.address).call(HUB, "IsUsernameAvailable", hub_pb2.IsUsernameAvailableRequest(username="free"))
    other = short_folder / "file"
    other.write_text("precious")
    with pytest.raises(errors.Busy, match="no socket"):
        start_hub(listen=f"unix:{other}")
    assert other.read_text() == "precious"


def test_a_port_in_use(start_hub: Callable[..., HubServer]) -> None:
    """An operator would not learn that the port is taken."""
    address = start_hub().address
    with pytest.raises(errors.Unavailable, match="cannot listen"):
        start_hub(listen=address)


# What it says about itself


def test_health_and_reflection(hub_server: HubServer) -> None:
    """Monitors and grpcurl would not find out whether the Hub works and what it offers."""
    with grpc.insecure_channel(hub_server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("", HUB, "threads.pb.API"):
            status = check(health_pb2.HealthCheckRequest(service=name), timeout=20).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = next(ask(iter([request]), timeout=20)).list_services_response.service
    ours = {HUB, "api.usersd.pb.APIService", "api.bucketsd.pb.APIService", BLOCKS, "threads.pb.API", "threads.net.pb.API"}
    general = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert {service.name for service in listed} == ours | general


def test_unknown_methods(hub_server: HubServer) -> None:
    """A client that is newer than the Hub would not learn that a call is not offered."""
    with grpc.insecure_channel(hub_server.address) as channel:
        for path in ("/api.hubd.pb.APIService/Nope", "/no.Service/Nope"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"", timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# How calls end


class Probe:
    """Stands in for the service of blocks, to see calls from inside."""

    def __init__(self) -> None:
        self.failure: Exception = RuntimeError("the message of a bug")
        self.ends: list[str] = []
        self.ended = threading.Semaphore(0)
        self.received = threading.Semaphore(0)
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def service(self, _hub: Any) -> Service:
        return Service(BLOCKS, {"Missing": self.missing, "Get": self.get, "Put": self.put, "SwapRoot": self.slow})

    def missing(self, request: Any, _context: Any) -> Any:
        if request.cids:
            return blocks.MissingReply(cids=request.cids)
        raise self.failure

    def get(self, request: Any, _context: Any) -> Iterator[Any]:
        yield blocks.GetReply()
        raise self.failure

    def put(self, requests: Iterator[Any], _context: Any) -> Any:
        received = 0
        try:
            for request in requests:
                received += sum(len(block.data) for block in request.blocks)
                self.received.release()
        except Status as status:
            self.ends.append(status.code.name)
            raise
        else:
            self.ends.append("whole")
        finally:
            self.ended.release()
        return blocks.PutReply(bytes_received=received)

    def slow(self, _request: Any, _context: Any) -> Any:
        self.entered.set()
        assert self.go_on.wait(20)
        return blocks.SwapRootReply(updated_at=7)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def probed(probe: Probe, tmp_path: Path) -> Iterator[HubServer]:
    own = [make for make in SERVICES if "blocks" not in make.__module__]
    server = HubServer(HubConfig(tmp_path / "hub", "127.0.0.1:0", auto_confirm=True), [*own, probe.service])
    server.start()
    yield server
    probe.go_on.set()
    server.stop(0)


@pytest.fixture
def prober(probed: HubServer, dial: Callable[[str], Any]) -> Any:
    caller = dial(probed.address)
    session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    return caller.using(x_textile_session=session)


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        (Status(Code.DATA_LOSS, "grün, 100 %"), "DATA_LOSS", "grün, 100 %"),
        (errors.RootMoved("x"), "FAILED_PRECONDITION", "update is non-fast-forward"),
        (errors.NotFound("no such thing"), "NOT_FOUND", "no such thing"),
        (errors.Denied("permission denied"), "PERMISSION_DENIED", "permission denied"),
        (errors.OverQuota("too much"), "RESOURCE_EXHAUSTED", "too much"),
        (errors.Corrupt("bad block"), "DATA_LOSS", "bad block"),
        (errors.NoSpace("disk is full"), "UNAVAILABLE", "disk is full"),
        (errors.Busy("in use"), "FAILED_PRECONDITION", "in use"),
    ],
)
def test_errors_have_codes(prober: Any, probe: Probe, failure: Exception, code: str, text: str) -> None:
    """Clients could not tell a full account from a full disk or a conflict, and would retry or give up wrongly."""
    probe.failure = failure
    assert prober.refused(BLOCKS, "Missing", blocks.MissingRequest()) == (code, text)
    assert prober.refused(BLOCKS, "Get", blocks.GetRequest()) == (code, text)


def test_trailers_travel_with_a_status(prober: Any, probe: Probe) -> None:
    """Clients would not learn which blocks a push lacks."""
    probe.failure = Status(Code.NOT_FOUND, "blocks are missing", trailers={"bucketfs-missing-bin": b"\0\xff"})
    with pytest.raises(grpc.RpcError) as caught:
        prober.call(BLOCKS, "Missing", blocks.MissingRequest())
    assert ("bucketfs-missing-bin", b"\0\xff") in [tuple(pair) for pair in caught.value.trailing_metadata()]


def test_every_error_of_ours_but_a_broken_disk_is_explained() -> None:
    """A new kind of error would reach clients as a bug of the Hub."""

    def leaves(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        # Another room may have an error of its own below one of these, as far as it is loaded: that is not the Hub's affair.
        below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
        yield from ([kind] if not below else [leaf for one in below for leaf in leaves(one)])

    unexplained = {kind for kind in leaves(errors.BucketfsError) if status_of(kind("x")) is None}
    assert unexplained <= {errors.DiskFailed}


def test_a_bug_is_logged_once_and_without_secrets(prober: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An operator would find no trace of a bug, or a session in the log."""
    session = prober.headers["x-textile-session"]
    with caplog.at_level(logging.DEBUG):
        for method, request in (("Missing", blocks.MissingRequest()), ("Get", blocks.GetRequest())):
            caplog.clear()
            assert prober.refused(BLOCKS, method, request) == ("INTERNAL", "internal error")
            assert [record.message for record in caplog.records if record.exc_info] == [f"{BLOCKS}/{method} failed"]
            assert "the message of a bug" in caplog.text
            assert session not in caplog.text


def test_the_database_keeps_secrets_out_of_its_errors(probed: HubServer) -> None:
    """Sessions and accounts would stand in the log with each database error."""
    probed.hub.database.close()
    with probed.hub.database._db._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE sessions")
    with pytest.raises(Exception, match="no such table") as caught:
        probed.hub.database.create_session("a-secret", "whose-account", 1)
    assert "whose-account" not in str(caught.value)


def test_configuration_shows_no_secrets() -> None:
    """The database password would stand in the log."""
    config = HubConfig(Path("/x"), database_url="postgresql://u:password@h/d", confirm_secret="hubsession")
    assert "password" not in repr(config)
    assert "hubsession" not in repr(config)


def test_messages_up_to_8_mib(prober: Any) -> None:
    """Pushes with large messages would fail, or a huge message would use up the Hub's memory."""
    fits = bytes(8 * 2**20 - 100)
    assert prober.call(BLOCKS, "Missing", blocks.MissingRequest(cids=[b"x"], upload=fits)).cids == [b"x"]
    code, _text = prober.refused(BLOCKS, "Missing", blocks.MissingRequest(cids=[b"x"], upload=bytes(8 * 2**20)))
    assert code == "RESOURCE_EXHAUSTED"


def test_a_cut_off_stream_is_never_taken_for_a_whole_one(prober: Any, probe: Probe) -> None:
    """Clients that cancel, vanish or run out of time between two messages: the end of input must not look like the end."""
    piece = blocks.PutRequest(blocks=[blocks.Block(data=bytes(1000))])
    whole = prober.call(BLOCKS, "Put", iter([piece] * 3))
    assert whole.bytes_received == 3000
    assert (probe.ended.acquire(timeout=20), probe.ends) == (True, ["whole"])
    for number in range(60):
        more = threading.Event()
        probe.received = threading.Semaphore(0)

        def pieces(more: threading.Event = more) -> Iterator[Any]:
            yield piece
            yield piece
            more.wait(20)

        call = prober.start(BLOCKS, "Put", pieces(), timeout_s=0.02 if number % 3 == 0 else 20)
        if number % 3:
            # After the first message, or after the second.
            for _ in range(number % 3):
                assert probe.received.acquire(timeout=20)
            call.cancel()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result()
        more.set()
    while probe.ended.acquire(timeout=1):
        pass
    assert "whole" not in probe.ends[1:]
    assert probe.ends.count("CANCELLED") > 30


def test_pings_of_idle_clients_are_tolerated(hub_server: HubServer) -> None:
    """Mounts would lose their connection again and again while nothing happens."""
    options = [
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_sent_ping_interval_without_data_ms", 1_000),
    ]
    went: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(hub_server.address, options=options) as channel:
        grpc.channel_ready_future(channel).result(20)
        changed = threading.Event()

        def watch(state: grpc.ChannelConnectivity) -> None:
            went.append(state)
            if state is not grpc.ChannelConnectivity.READY:
                changed.set()

        channel.subscribe(watch)
        changed.clear()
        assert not changed.wait(4.5)
    assert went[-1] is grpc.ChannelConnectivity.READY


# How it stops and what it keeps


def test_calls_that_run_are_finished(prober: Any, probe: Probe, probed: HubServer) -> None:
    """Stopping the Hub would break off pushes that are nearly done."""
    call = prober.start(BLOCKS, "SwapRoot", blocks.SwapRootRequest())
    assert probe.entered.wait(20)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(probed.stop, 20)
        assert not stopping.done()
        probe.go_on.set()
        assert call.result().updated_at == 7
        stopping.result(20)
    assert probed.wait(0)
    with pytest.raises(grpc.RpcError) as caught:
        prober.call(BLOCKS, "Missing", blocks.MissingRequest(cids=[b"x"]), timeout_s=1)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    probed.stop()


def test_a_hub_remembers(start_hub: Callable[..., HubServer], dial: Callable[[str], Any], tmp_path: Path) -> None:
    """After a restart of the Hub all sessions and tokens would be void."""
    first = start_hub()
    caller = dial(first.address)
    session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    host = first.hub.host_key
    first.stop()
    for folder, _folders, files in os.walk(tmp_path / "hub"):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        for name in files:
            if name.startswith("hub.sqlite"):
                assert stat.S_IMODE((Path(folder) / name).stat().st_mode) == 0o600
    second = start_hub()
    assert second.hub.host_key == host
    again = dial(second.address).using(x_textile_session=session)
    assert again.call(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).username == "a"
    assert session not in (tmp_path / "hub" / "hub.sqlite").read_bytes().decode("latin1")


def test_serve_runs_until_told(tmp_path: Path) -> None:
    """`bucketfs hub serve` would not say where it listens, or not end."""
    stop = threading.Event()
    addresses: list[str] = []

    def ready(address: str) -> None:
        addresses.append(address)
        stop.set()

    serve(HubConfig(tmp_path / "hub", "127.0.0.1:0", auto_confirm=True), ready, stop)
    assert addresses[0].startswith("127.0.0.1:")
    assert not addresses[0].endswith(":0")


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """An operator would see a traceback instead of the folder that cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.NotADirectory, match="cannot make the folder"):
        HubServer(HubConfig(tmp_path / "file" / "hub", "127.0.0.1:0")).start()


# The metadata beneath


THREAD = ThreadRow(ThreadId(b"\x01\x55thread"), "me", "", "unnamed", "", True, bytes(64), 1)
BUCKET = BucketRow(BucketKey("key"), THREAD.id, "me", "b", 1, None, Cid(b"r0"), {"": PathEntry(None, {"me": 3}, 1)}, 1, 1)


def test_buckets_are_swapped_not_overwritten(database: HubDatabase) -> None:
    """Of two changes at the same moment one would be lost, with its files or its roles."""
    with pytest.raises(errors.NotFound, match="thread not found"):
        database.create_bucket(BUCKET)
    database.create_thread(THREAD)
    assert database.create_bucket(BUCKET) == database.bucket(THREAD.id, "key")
    with pytest.raises(errors.Exists):
        database.create_bucket(BUCKET)
    entries = {**BUCKET.entries, "a": PathEntry(b"k", {}, 2), "b": PathEntry(None, {"*": 1}, 2)}
    first = database.save_bucket(replace(BUCKET, root=Cid(b"r1"), entries=entries), Cid(b"r0"))
    assert first == database.bucket(THREAD.id, "key")
    assert first.revision == 1
    with pytest.raises(errors.RootMoved):
        database.save_bucket(replace(first, root=Cid(b"r2")), Cid(b"r0"))
    with pytest.raises(errors.RootMoved):  # the root is as expected, but the roles were read before another save
        database.save_bucket(replace(BUCKET, root=Cid(b"r2")), Cid(b"r1"))
    second = database.save_bucket(replace(first, entries={"b": PathEntry(None, {"*": 2}, 3)}), Cid(b"r1"))
    assert dict(database.bucket(THREAD.id, "key").entries) == {"b": PathEntry(None, {"*": 2}, 3)} == dict(second.entries)
    assert database.buckets(THREAD.id) == database.buckets_of("me") == [second]
    assert second.root == b"r1"
    database.delete_bucket("key")
    for act in (lambda: database.bucket(THREAD.id, "key"), lambda: database.delete_bucket("key")):
        with pytest.raises(errors.NotFound, match="instance not found"):
            act()
    with pytest.raises(errors.NotFound):
        database.save_bucket(second, Cid(b"r1"))


def test_of_many_swaps_at_once_one_wins(database: HubDatabase, tmp_path: Path) -> None:
    """Two hub processes over one database, eight threads each, all from the same root."""
    database.create_thread(THREAD)
    database.create_bucket(BUCKET)
    other = HubDatabase(sqlite_url(tmp_path))

    def swap(number: int) -> str:
        store = (database, other)[number % 2]
        try:
            store.save_bucket(replace(BUCKET, root=Cid(b"r%d" % number), entries={str(number): PathEntry()}), Cid(b"r0"))
        except errors.RootMoved:
            return "moved"
        return f"r{number}"

    with ThreadPoolExecutor(16) as pool:
        outcomes = [outcome for outcome in pool.map(swap, range(1, 33)) if outcome != "moved"]
    assert len(outcomes) == 1
    for store in (database, other):
        row = store.bucket(THREAD.id, "key")
        assert [row.root.decode()] == outcomes
        assert list(row.entries) == [outcomes[0][1:]]
    other.close()


def test_a_newer_layout_is_refused(database: HubDatabase, tmp_path: Path) -> None:
    """An older version of the Hub would damage a database that a newer one wrote."""
    with database._db.write() as connection:
        connection.exec_driver_sql("UPDATE settings SET value = X'3939' WHERE name = 'schema'")
    with pytest.raises(errors.Unsupported, match="layout 99"):
        HubDatabase(sqlite_url(tmp_path))
