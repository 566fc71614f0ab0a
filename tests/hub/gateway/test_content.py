"""Buckets seen with a browser or curl: files, ranges, folders, private links, websites, and names made to harm."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.bucketuser import BucketUser

from bucketfs.dag import cid_text
from bucketfs.hub import HubServer
from bucketfs.hub.gateway import pages
from bucketfs.hub.gateway.app import GatewayApp
from bucketfs.hub.gateway.content import Asked
from bucketfs.keys import make_link_token, make_token
from bucketfs.types import Cid

VIDEO = bytes(index * 7 % 256 for index in range(700_001))
DOMAIN = "buckets.example"


class Browser:
    """Asks the gateway of a Hub."""

    def __init__(self, server: HubServer) -> None:
        self._host, self._port = server.config.gateway_address.rsplit(":", 1)

    def get(self, url: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body. ``url`` may be a whole one, as the Hub prints it."""
        split = urlsplit(url)
        connection = http.client.HTTPConnection(self._host, int(self._port), timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, split.path + (f"?{split.query}" if split.query else ""), headers=named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def status(self, url: str, **headers: str) -> int:
        return self.get(url, **headers)[0]


@pytest.fixture
def hub_server(start_hub: Callable[..., HubServer]) -> HubServer:
    return start_hub(gateway_listen="127.0.0.1:0", bucket_domain=DOMAIN)


@pytest.fixture
def browser(hub_server: HubServer) -> Browser:
    return Browser(hub_server)


@pytest.fixture
def user(alice: Any) -> BucketUser:
    return BucketUser.with_new_thread(alice)


@pytest.fixture
def key(user: BucketUser) -> str:
    """A public bucket with some files."""
    made: str = user.create("films").root.key
    files = {"film.mp4": VIDEO, "notes.md": b"# hi\n", "empty": b"", "d/a b?#.txt": b"deep", "d/page.html": b"<p>x"}
    user.push_paths(made, files)
    return made


def url_of(user: BucketUser, key: str, path: str = "") -> str:
    """As ``Links`` prints it."""
    links: Any = user.ask("Links", key=key, path=path)
    return str(links.url)


def test_a_file_is_seen_with_its_type_and_length(browser: Browser, user: BucketUser, key: str) -> None:
    """A link that a command prints must show the file, and a player must learn its length and type."""
    status, headers, body = browser.get(url_of(user, key, "film.mp4"))
    assert (status, body) == (200, VIDEO)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(len(VIDEO))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert browser.get(url_of(user, key, "notes.md"))[1]["Content-Type"] == "text/plain; charset=utf-8"
    assert browser.get(url_of(user, key, "empty"))[::2] == (200, b"")
    assert browser.get(url_of(user, key, "d/a b?#.txt"))[::2] == (200, b"deep")


@pytest.mark.parametrize(
    ("wanted", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=0-262143", 206, 0, 262_144),
        ("bytes=262143-262144", 206, 262_143, 262_145),
        ("bytes=700000-", 206, 700_000, 700_001),
        ("bytes=-5", 206, 699_996, 700_001),
        ("bytes=600000-9999999", 206, 600_000, 700_001),
        ("bytes=-9999999", 206, 0, 700_001),
        ("bytes=5-4", 200, 0, 700_001),
        ("bytes=1-2,5-6", 200, 0, 700_001),
        ("lines=1-2", 200, 0, 700_001),
        ("bytes=x-", 200, 0, 700_001),
    ],
)
@pytest.mark.parametrize("private", [False, True])
def test_a_player_seeks(
    browser: Browser, user: BucketUser, wanted: str, status: int, start: int, stop: int, private: bool
) -> None:
    """A film starts where the viewer clicks: each range has just its bytes, in private buckets too."""
    key = user.create(private=private).root.key
    user.push(key, "film.mp4", VIDEO)
    found, headers, body = browser.get(url_of(user, key, "film.mp4"), Range=wanted)
    assert (found, body) == (status, VIDEO[start:stop])
    assert headers.get("Content-Range") == (f"bytes {start}-{stop - 1}/{len(VIDEO)}" if status == 206 else None)


def test_a_range_that_is_not_there_and_a_file_that_changed(browser: Browser, user: BucketUser, key: str) -> None:
    """A download that goes on after the file changed must begin anew, not be put together of two files."""
    url = url_of(user, key, "film.mp4")
    status, headers, _ = browser.get(url, Range="bytes=700001-")
    assert (status, headers["Content-Range"]) == (416, "bytes */700001")
    etag = browser.get(url)[1]["ETag"]
    assert browser.get(url, Range="bytes=1-2", If_Range=etag)[2] == VIDEO[1:3]
    assert browser.get(url, Range="bytes=1-2", If_Range='"other"')[2] == VIDEO


def test_what_did_not_change_is_not_sent_again(browser: Browser, user: BucketUser, key: str) -> None:
    """A page that was seen before costs a question, and a changed one is seen at once."""
    for path in ("film.mp4", "d"):
        url = url_of(user, key, path)
        etag = browser.get(url)[1]["ETag"]
        assert browser.get(url, If_None_Match=f'"other", {etag}')[::2] == (304, b"")
        assert browser.status(url, If_None_Match="*") == 304
    url, etag = url_of(user, key, "notes.md"), browser.get(url_of(user, key, "notes.md"))[1]["ETag"]
    user.push(key, "notes.md", b"changed")
    assert browser.get(url, If_None_Match=etag)[::2] == (200, b"changed")


def test_only_the_head(browser: Browser, user: BucketUser, key: str) -> None:
    """A download manager asks for the size first, and gets no body."""
    status, headers, body = browser.get(url_of(user, key, "film.mp4"), method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(VIDEO)), b"")
    assert browser.status(url_of(user, key, "film.mp4"), method="POST") == 405
    assert browser.status(url_of(user, key, "film.mp4"), method="OPTIONS") == 204


def test_by_cid_it_may_be_kept_for_ever(browser: Browser, user: BucketUser, key: str) -> None:
    """What a CID names never changes, so a browser must not ask again."""
    root = cid_text(Cid(user.root_cid(key)))
    status, headers, body = browser.get(f"/ipfs/{root}/notes.md")
    assert (status, body) == (200, b"# hi\n")
    assert "immutable" in headers["Cache-Control"]
    assert browser.get(f"/ipns/{key}/notes.md")[2] == b"# hi\n"
    assert browser.get(f"/ipns/{key}/notes.md")[1]["Cache-Control"] == "no-cache"
    for path in ("/ipfs", "/ipfs/x", f"/ipfs/{root}/none", "/ipns/x", f"/ipns/{root}", "/ipfs/bafkqaaa/x"):
        assert browser.status(path) == 404


def test_a_folder_is_a_list_of_links(browser: Browser, user: BucketUser, key: str) -> None:
    """Every name of a folder is a link that works, whatever characters it has."""
    page = browser.get(url_of(user, key))[2].decode()
    thread = url_of(user, key).split("/")[4]
    assert page.index(">d/<") < page.index(">empty<") < page.index(">film.mp4<")
    deep = browser.get(f"/thread/{thread}/buckets/{key}/d")[2].decode()
    href = deep.split('href="')[2].split('"')[0]
    assert browser.get(href)[::2] == (200, b"deep")
    assert browser.get(f"/thread/{thread}/buckets")[2].decode().count(key) == 1


def test_names_made_to_harm_are_only_names(browser: Browser, user: BucketUser) -> None:
    """A stranger's file name must not become a script in the browser of a visitor."""
    key = user.create("<script>alert(1)").root.key
    user.push_paths(key, {'"><img src=x onerror=alert(1)>.txt': b"x", "javascript:alert(1)": b"y", "&amp;": b"z"})
    page = browser.get(url_of(user, key))[2].decode()
    assert "<script>" not in page
    assert "<img" not in page
    assert 'href="javascript:' not in page
    assert "&amp;amp;" in page


def test_a_private_bucket_is_seen_with_its_link_only(browser: Browser, user: BucketUser) -> None:
    """What is private is shown to those who were given the link, for as long as the link lives, and below its path only."""
    key = user.create("secret", private=True).root.key
    user.push_paths(key, {"d/one.txt": b"one", "two.txt": b"two"})
    link = url_of(user, key, "d")
    bare, query = link.split("?")
    status, headers, page = browser.get(link)
    assert status == 200
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Referrer-Policy"] == "no-referrer"
    inner = page.decode().split('href="')[2].split('"')[0]
    assert browser.get(inner)[::2] == (200, b"one")
    top = bare.removesuffix("/d")
    for url in (bare, f"{bare}/one.txt", top, f"{top}?{query}", f"{top}/two.txt?{query}", f"{top}/.textileseed?{query}"):
        assert browser.status(url) == 404


def test_a_link_that_ended_and_links_that_were_never_made(browser: Browser, user: BucketUser, hub_server: HubServer) -> None:
    """An old link says that it has ended; a forged one opens nothing."""
    root = user.create("secret", private=True).root
    user.push(root.key, "f", b"x")
    bare = url_of(user, root.key, "f").split("?")[0]
    host, now_ns = hub_server.hub.host_key, time.time_ns()
    assert browser.status(f"{bare}?token={make_link_token(host, root.owner, root.key, 'f', now_ns)}") == 200
    old = make_link_token(host, root.owner, root.key, "f", now_ns - 25 * 3600 * 10**9)
    assert browser.get(f"{bare}?token={old}")[0] == 410
    other = make_link_token(host, root.owner, "bafzbei", "f", now_ns)
    genuine = make_link_token(host, root.owner, root.key, "f", now_ns)
    forged = genuine[:-4] + ("AAAA" if genuine[-4:] != "AAAA" else "BBBB")
    for token in (other, forged, "x", "x.y.z", "%00", "a" * 9000):
        assert browser.status(f"{bare}?token={token}") == 404


def test_a_users_token_counts_under_the_owner_of_its_key_only(
    browser: Browser, user: BucketUser, hub_server: HubServer
) -> None:
    """The token that one app was given must not open what its user keeps in another app."""
    root = user.create("secret", private=True).root
    user.push(root.key, "f", b"x")
    bare = url_of(user, root.key, "f").split("?")[0]
    token = make_token(hub_server.hub.host_key, root.owner, time.time_ns(), root.owner)
    assert browser.status(f"{bare}?token={token}") == 404


def test_a_reader_who_lost_the_right(browser: Browser, user: BucketUser) -> None:
    """Taking the right to read away must end the links that were made by it."""
    root = user.create("films").root
    user.push(root.key, "f", b"x")
    url = url_of(user, root.key, "f")
    assert browser.status(url) == 200
    user.ask("PushPathAccessRoles", key=root.key, path="", roles={"*": 0})
    assert browser.status(url) == 404
    assert root.key not in browser.get("/".join(url.split("/")[:-2]))[2].decode()


def test_a_website(browser: Browser, user: BucketUser) -> None:
    """A bucket with a domain is a website: a folder shows its index.html."""
    key = user.create().root.key
    user.push_paths(key, {"index.html": b"<h1>home", "blog/index.html": b"<h1>blog", "css/a.css": b"b{}"})
    host = f"{key}.{DOMAIN}"
    assert browser.get("/", Host=host)[2] == b"<h1>home"
    assert browser.get("/blog", Host=f"{host}:8006")[2] == b"<h1>blog"
    status, headers, _ = browser.get("/css/a.css", Host=host)
    assert (status, headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert browser.status("/css", Host=host) == 404
    assert browser.status("/", Host=f"other.{DOMAIN}") == 404


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/%ff",
        "/thread",
        "/thread/x/buckets",
        "/thread/%00/buckets",
        "/ipfs/" + "a" * 5000,
        "/ipfs/bafk/" + "x/" * 5000,
        "/p2p/x",
        "/dashboard/me",
        "/thread/..%2f..%2fetc/buckets",
        "/?token=x",
    ],
)
def test_addresses_that_lead_nowhere(browser: Browser, path: str) -> None:
    """Any nonsense is answered with a short page, not with a traceback or a hanging connection."""
    status, _, body = browser.get(path)
    assert status in (400, 404, 414)
    assert len(body) < 2000


def test_who_the_hub_is(browser: Browser, hub_server: HubServer) -> None:
    """A monitor finds the Hub under its peer id and under no other."""
    status, _, body = browser.get("/health")
    assert (status, body) == (200, b"")
    app = GatewayApp(hub_server.hub)
    assert app.answer("/p2p/12D3KooWother", Asked()).status == 404


def test_a_file_of_which_a_part_is_lost_is_cut_off(
    browser: Browser, user: BucketUser, hub_server: HubServer, key: str
) -> None:
    """A film of which a block is lost must not be taken for a shorter film; what cannot be read at all says so."""
    film = random.Random(1).randbytes(4 << 20)
    user.push(key, "long.mp4", film)
    url, lost = url_of(user, key, "long.mp4"), film[3 << 20 : (3 << 20) + 100]
    for pack in (hub_server.hub.config.data / "blocks").rglob("*"):
        if pack.is_file() and lost in pack.read_bytes():
            pack.write_bytes(pack.read_bytes().replace(lost, bytes(100)))
    with pytest.raises(http.client.IncompleteRead):
        browser.get(url)
    assert browser.get(url, Range="bytes=0-9")[2] == film[:10]
    assert browser.status(url, Range=f"bytes={3 << 20}-{(3 << 20) + 9}") == 502
    assert browser.status(url_of(user, key)) == 200


def test_a_page_of_very_many_names_ends() -> None:
    """A folder with a million names must not become a page that no browser opens."""
    rows = [pages.Row(f"/x/{number}", str(number)) for number in range(pages.ROWS_MAX + 5)]
    page = pages.index("big", rows).decode()
    assert page.count("<tr>") == pages.ROWS_MAX
    assert "Only the first" in page
