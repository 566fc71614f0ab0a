"""Calls of web clients: over WebSockets and POST they get what gRPC clients get, and what breaks off stores nothing."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser
from support.webclient import WebSocketCall, call, framed, parsed, post

from bucketfs.dag import multibase_encode
from bucketfs.errors import InvalidArgument, Usage
from bucketfs.hub import HubServer
from bucketfs.hub.web.frames import Base64Reader, FrameReader, parse_headers
from bucketfs.wire import buckets_pb2, hub_pb2, threads_pb2

pb: Any = buckets_pb2
th: Any = threads_pb2
HUB, BUCKETS, THREADS = "/api.hubd.pb.APIService", "/api.bucketsd.pb.APIService", "/threads.pb.API"


@pytest.fixture
def hub_server(start_hub: Callable[..., HubServer]) -> HubServer:
    return start_hub(web_listen="127.0.0.1:0")


@pytest.fixture
def web(hub_server: HubServer) -> str:
    return hub_server.config.web_listen


@pytest.fixture
def session(caller: Caller) -> str:
    request = hub_pb2.SignupRequest(username="webby", email="w@example.org")
    made: str = caller.call("api.hubd.pb.APIService", "Signup", request).session
    return made


@pytest.fixture
def user(caller: Caller, session: str) -> BucketUser:
    return BucketUser.with_new_thread(caller.using(x_textile_session=session))


def test_a_single_call(web: str, session: str) -> None:
    """A web page asks who it is, and is told."""
    (reply,), trailers = call(
        web,
        f"{HUB}/GetSessionInfo",
        hub_pb2.GetSessionInfoRequest(),
        hub_pb2.GetSessionInfoResponse,
        x_textile_session=session,
    )
    assert (reply.username, trailers["grpc-status"]) == ("webby", "0")


def test_refusals_have_the_same_texts(web: str) -> None:
    """Clients compare them; they come percent-encoded."""
    messages, trailers = call(web, f"{HUB}/GetSessionInfo", hub_pb2.GetSessionInfoRequest(), hub_pb2.GetSessionInfoResponse)
    assert (messages, trailers["grpc-status"], trailers["grpc-message"]) == ([], "16", "Session or API key required")
    _, trailers = call(
        web,
        f"{HUB}/IsUsernameAvailable",
        hub_pb2.IsUsernameAvailableRequest(username="ä ☃"),
        hub_pb2.IsUsernameAvailableResponse,
    )
    assert trailers["grpc-status"] != "0"
    _, trailers = call(web, "/no.such.Service/Method", hub_pb2.GetSessionInfoRequest(), hub_pb2.GetSessionInfoResponse)
    assert trailers["grpc-status"] == "12"


def pushing(web: str, session: str, user: BucketUser, key: str, path: str) -> WebSocketCall:
    thread = multibase_encode(user.thread)
    one = WebSocketCall(web, f"{BUCKETS}/PushPath", {"x-textile-session": session, "x-textile-thread": thread})
    one.send(pb.PushPathRequest(header=pb.PushPathRequest.Header(key=key, path=path)))
    return one


def test_a_file_goes_there_and_comes_back(web: str, session: str, user: BucketUser) -> None:
    """In chunks of a kilobyte, as JavaScript sends them, and in any number of frames."""
    key, data = user.create().root.key, bytes(range(256)) * 2000
    with pushing(web, session, user, key, "a/f") as one:
        for start in range(0, len(data), 1024):
            one.send(pb.PushPathRequest(chunk=data[start : start + 1024]))
        one.finish()
        messages, trailers = one.answer(pb.PushPathResponse)
        assert trailers["grpc-status"] == "0"
        assert messages[-1].event.path
        assert one.close_reason == "request body closed"
    pulled, _ = call(
        web,
        f"{BUCKETS}/PullPath",
        pb.PullPathRequest(key=key, path="a/f"),
        pb.PullPathResponse,
        x_textile_session=session,
        x_textile_thread=multibase_encode(user.thread),
    )
    assert b"".join(reply.chunk for reply in pulled) == data


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_push_that_is_cut_off_stores_nothing(
    web: str, session: str, user: BucketUser, hub_server: HubServer, how: str
) -> None:
    """A page that is closed in the middle of an upload must not leave a part of the file."""
    key = user.create().root.key
    one = pushing(web, session, user, key, "f")
    for _ in range(50):
        one.send(pb.PushPathRequest(chunk=b"x" * 1000))
    if how == "close":
        one.leave()
    else:
        one._socket.close()
    other = user.push(key, "g", b"whole")
    assert other is not None
    assert user.names(key) == [".textileseed", "g"]


def test_a_push_that_is_refused_hears_why(web: str, session: str, user: BucketUser) -> None:
    """The refusal reaches a client that goes on sending, instead of a broken connection."""
    with pushing(web, session, user, "nosuchbucket", "f") as one:
        for _ in range(200):
            one.send(pb.PushPathRequest(chunk=b"x" * 10_000))
        one.finish()
        _, trailers = one.answer(pb.PushPathResponse)
    assert trailers["grpc-status"] != "0"
    assert trailers["grpc-message"] == "instance not found"


def test_a_listener_hears_and_is_told_that_the_hub_stops(
    web: str, session: str, user: BucketUser, hub_server: HubServer
) -> None:
    """Streams of answers come as they happen; at the end of the Hub a client learns that it should come back."""
    with WebSocketCall(web, f"{THREADS}/Listen", {"x-textile-session": session}) as one:
        one.send(th.ListenRequest(dbID=user.thread))
        one.finish()
        frames = one.frames()
        assert next(frames)[0] == 0x80
        key = user.create("new").root.key
        flag, payload = next(frames)
        assert (flag, th.ListenReply.FromString(payload).instanceID) == (0, key)
        stopping = threading.Thread(target=hub_server.stop, args=(1,))
        stopping.start()
        last = [frame for frame in frames if frame[0]][-1]
        assert parsed(last[1])["grpc-status"] == "14"
        stopping.join()


def test_a_listener_that_left_is_forgotten(web: str, session: str, user: BucketUser, hub_server: HubServer) -> None:
    """Pages that were closed must not hold threads of the Hub for ever."""
    calls = [WebSocketCall(web, f"{THREADS}/Listen", {"x-textile-session": session}) for _ in range(5)]
    for one in calls:
        one.send(th.ListenRequest(dbID=user.thread))
        one.finish()
        next(one.frames())
    assert hub_server.hub.events.listeners() == 5
    for one in calls:
        one.leave()
    deadline = time.monotonic() + 20
    while hub_server.hub.events.listeners() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert hub_server.hub.events.listeners() == 0


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"\2abc", b"\0\0\0\0\0\5ab", b"\0\1\0\0\0\0", b"\0" + framed(b"") * 2, b"text", b"\0\xff\xff\xff\xff\xff"],
)
def test_nonsense_over_a_websocket(web: str, session: str, message: bytes) -> None:
    """Bytes that are no frame end the call with an error, and the Hub goes on."""
    with WebSocketCall(web, f"{HUB}/GetSessionInfo", {"x-textile-session": session}) as one:
        one.send_raw(message)
        _, trailers = one.answer(hub_pb2.GetSessionInfoResponse)
    assert trailers["grpc-status"] in ("3", "1")
    test_a_single_call(web, session)


def test_headers_that_are_none(web: str) -> None:
    """The first message is checked before anything else is done."""
    with WebSocketCall(web, f"{HUB}/GetSessionInfo", {}) as one:
        one.send_raw(b"x")
        _, trailers = one.answer(hub_pb2.GetSessionInfoResponse)
    assert trailers["grpc-status"] != "0"
    for bad in (b"no colon\r\n", b"\xff: x\r\n", b": x\r\n", b"a: b\nc\r\n", b"x" * 100_000):
        with pytest.raises(InvalidArgument):
            parse_headers(bad)
    assert parse_headers(b"A: b\r\nx-y:  z: w \r\n") == [("a", "b"), ("x-y", "z: w")]


def test_a_websocket_of_something_else_is_refused(web: str) -> None:
    """Only clients of this protocol are taken."""
    with WebSocketCall(web, f"{HUB}/GetSessionInfo", {}, subprotocol="chat") as one:
        assert not one.accepted


def test_a_message_that_is_too_large(start_hub: Callable[..., HubServer], tmp_path: Any) -> None:
    """One message must not fill the memory of the Hub; the limit is that of gRPC."""
    server = start_hub(data=tmp_path / "small", web_listen="127.0.0.1:0", message_bytes_max=100_000)
    with WebSocketCall(server.config.web_listen, f"{HUB}/IsUsernameAvailable", {}) as one:
        one.send(hub_pb2.IsUsernameAvailableRequest(username="x" * 200_000))
        assert not any(flag == 0 for flag, _ in one.frames())
    _, _, frames = post(server.config.web_listen, f"{HUB}/IsUsernameAvailable", [bytes(200_000)])
    assert parsed(frames[-1][1])["grpc-status"] == "3"


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"])
def test_calls_over_post(web: str, session: str, user: BucketUser, kind: str) -> None:
    """Other web clients of gRPC use plain POST, some of them in base64."""
    request = hub_pb2.GetSessionInfoRequest().SerializeToString()
    status, headers, frames = post(web, f"{HUB}/GetSessionInfo", [request], kind, x_textile_session=session)
    assert status == 200
    assert headers["content-type"].startswith(kind.removesuffix("+proto"))
    assert hub_pb2.GetSessionInfoResponse.FromString(frames[0][1]).username == "webby"
    assert parsed(frames[-1][1])["grpc-status"] == "0"
    key = user.create().root.key
    user.push(key, "f", bytes(100_000))
    pull = pb.PullPathRequest(key=key, path="f").SerializeToString()
    thread = multibase_encode(user.thread)
    _, _, frames = post(web, f"{BUCKETS}/PullPath", [pull], kind, x_textile_session=session, x_textile_thread=thread)
    assert sum(len(pb.PullPathResponse.FromString(data).chunk) for flag, data in frames if not flag) == 100_000
    _, _, frames = post(web, f"{HUB}/GetSessionInfo", [request], kind)
    assert parsed(frames[-1][1])["grpc-message"] == "Session or API key required"


def test_a_post_of_something_else(web: str, session: str) -> None:
    """Each is answered at once, and with what is wrong."""
    assert post(web, f"{HUB}/GetSessionInfo", [], "application/json")[0] == 415
    assert parsed(post(web, "/none/None", [b""])[2][-1][1])["grpc-status"] == "12"
    connection = http.client.HTTPConnection(web, timeout=30)
    connection.request(
        "POST",
        f"{HUB}/GetSessionInfo",
        b"\0\0\0\0\7abc",
        {"content-type": "application/grpc-web", "x-textile-session": session},
    )
    assert b"grpc-status: 3" in connection.getresponse().read()
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 405
    connection.close()


def test_a_page_of_any_site_may_ask(web: str) -> None:
    """A browser asks first whether a page of another site may call."""
    connection = http.client.HTTPConnection(web, timeout=30)
    asked = {"Origin": "https://app.example", "Access-Control-Request-Headers": "x-grpc-web,x-textile-api-key"}
    connection.request("OPTIONS", f"{HUB}/GetSessionInfo", headers=asked)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-textile-api-key" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "600"
    connection.close()


def test_silent_connections_keep_no_one_out(web: str, session: str) -> None:
    """Sockets that send nothing, or half a request, must not use the listener up."""
    host, port = web.rsplit(":", 1)
    silent = [socket.create_connection((host, int(port)), timeout=30) for _ in range(300)]
    for one in silent[::2]:
        one.sendall(b"GET / HT")
    test_a_single_call(web, session)
    for one in silent:
        one.close()


def test_a_slow_reader_holds_up_only_itself(web: str, session: str, user: BucketUser) -> None:
    """A client that stops reading a large file must not fill the memory of the Hub, nor keep others waiting."""
    key = user.create().root.key
    user.push(key, "f", bytes(20_000_000))
    thread = multibase_encode(user.thread)
    with WebSocketCall(web, f"{BUCKETS}/PullPath", {"x-textile-session": session, "x-textile-thread": thread}) as slow:
        slow.send(pb.PullPathRequest(key=key, path="f"))
        slow.finish()
        next(slow.frames())
        test_a_single_call(web, session)
        messages, trailers = slow.answer(pb.PullPathResponse)
    assert (sum(len(one.chunk) for one in messages), trailers["grpc-status"]) == (20_000_000, "0")


def test_readers_that_stop_for_ever_free_their_places(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many clients as there are places stop in the middle of a large file and never go on: others get through soon."""
    monkeypatch.setattr("bucketfs.hub.rpc.admission.IDLE_S", 0.5)
    server = start_hub(data=tmp_path / "few", web_listen="127.0.0.1:0", streams_max=4)
    caller, stuck, users = dial(server.address), [], []
    for name in ("ann", "bob"):
        request = hub_pb2.SignupRequest(username=name, email=f"{name}@example.org")
        session = caller.call("api.hubd.pb.APIService", "Signup", request).session
        user = BucketUser.with_new_thread(caller.using(x_textile_session=session))
        key, thread = user.create().root.key, multibase_encode(user.thread)
        user.push(key, "f", bytes(30_000_000))
        users.append((user, key))
        headers = {"x-textile-session": session, "x-textile-thread": thread}
        stuck += [WebSocketCall(server.config.web_listen, f"{BUCKETS}/PullPath", headers) for _ in range(2)]
        for one in stuck[-2:]:
            one.send(pb.PullPathRequest(key=key, path="f"))
            one.finish()
            next(one.frames())
    deadline = time.monotonic() + 30
    while True:
        try:
            assert users[0][0].pull(users[0][1], "f") == bytes(30_000_000)
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline, "the places are never free again"
            threading.Event().wait(0.1)
    for one in stuck:
        one._socket.close()


def test_frames_in_pieces() -> None:
    """Bytes come in any pieces; messages do not."""
    data = framed(b"one") + framed(b"x: y\r\n", 0x80) + framed(b"") + framed(b"two")
    for size in (1, 2, 7, 100):
        reader = FrameReader(100)
        found = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
        assert (found, reader.is_between) == ([b"one", b"", b"two"], True)
    reader, text = FrameReader(100), Base64Reader()
    encoded = b"AAAAAAE=" + b"eA=="
    assert [one for at in range(len(encoded)) for one in reader.feed(text.feed(encoded[at : at + 1]))] == [b"x"]
    with pytest.raises(InvalidArgument):
        Base64Reader().feed(b"!!!!")


def test_a_listener_without_encryption_stays_at_home(start_hub: Callable[..., HubServer], tmp_path: Any) -> None:
    """Keys must not cross a network in clear text because of a typing error."""
    with pytest.raises(Usage, match="without TLS"):
        start_hub(data=tmp_path / "x", web_listen="0.0.0.0:0")
