"""What a path of the gateway means (hub-protocol section 12): from a request to an ``Answer``.

::

    /health                               /confirm/SECRET    /consent/TOKEN
    /thread/ID/buckets[/KEY[/PATH]]       /ipns/KEY[/PATH]   the same bucket, without its thread
    /ipfs/CID[/PATH]                      /p2p/PEER          this Hub, if it has that name
    KEY.BUCKET-DOMAIN/PATH                a website: index.html of a folder

``?token=`` says who looks, ``?json=true`` asks for instances, ``?download=true`` for a file to be saved. What a visitor may not see
is answered as what is not there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from bucketfs.dag import cid_from_text, cid_text, name_from_text, peer_id_text
from bucketfs.errors import BucketfsError, Corrupt, InvalidArgument, NotFound, Stale
from bucketfs.hub.context import Hub
from bucketfs.hub.db import BucketRow, ThreadRow
from bucketfs.hub.gateway import pages
from bucketfs.hub.gateway.content import BY_LINK, BY_NAME, FOREVER, Answer, Asked, ContentPlace, answer_place, page
from bucketfs.hub.gateway.visitor import Visitor
from bucketfs.hub.services.buckets import file_key, path_text, read_path
from bucketfs.hub.trees import PublicTree, WorkingSet, tree_of
from bucketfs.keys import TokenExpired, thread_from_text, thread_text
from bucketfs.names import SEED_NAME

log = logging.getLogger("bucketfs.hub")

NOTHING = "There is nothing here."
ENDED = "This link has ended. Ask for a new one."
INVITE_ENDED = "This invitation has expired. Ask for a new one."
UNREADABLE = "This cannot be read at the moment: the hub lacks a part of it."


@dataclass(frozen=True, slots=True)
class GatewayApp:
    """Answers requests. Blocks for the stores; may be used from any thread."""

    hub: Hub
    now_ns: Callable[[], int] = time.time_ns

    def answer(self, path: str, asked: Asked, host: str = "") -> Answer:
        """``path`` is as it came: percent-encoded, without the query. ``host`` has no port."""
        try:
            names = _names(path)
            key = self._website(host)
            if key:
                return self._by_key(key, names, asked, website=True)
            route = self._routes().get(names[0]) if names else None
            return _nothing() if route is None else route(names[1:], asked)
        except TokenExpired:
            return page(410, pages.message(ENDED))
        except (NotFound, InvalidArgument):
            return _nothing()
        except Corrupt as error:
            log.warning("the gateway cannot show what was asked for: %s", error)
            return page(502, pages.message(UNREADABLE))
        except BucketfsError as error:
            log.warning("the gateway cannot answer: %s", error)
            return page(503, pages.message("The hub cannot answer at the moment. Try again later."))

    def _routes(self) -> Mapping[str, Callable[[tuple[str, ...], Asked], Answer]]:
        return {
            "health": lambda names, _: page(200, b"") if not names else _nothing(),
            "confirm": self._confirm,
            "consent": self._consent,
            "thread": self._thread,
            "ipfs": self._ipfs,
            "ipns": self._ipns,
            "p2p": self._peer,
        }

    # Links that the Hub hands out

    def _confirm(self, names: tuple[str, ...], _asked: Asked) -> Answer:
        if not names:
            return _nothing()
        # The answer is the same for every secret: a page that tells right from wrong would help a guesser.
        self.hub.confirmations.confirm("/".join(names))
        return page(200, pages.message("Your email address is confirmed. You can close this page."))

    def _consent(self, names: tuple[str, ...], _asked: Asked) -> Answer:
        if not names:
            return _nothing()
        try:
            self.hub.database.accept_invite("/".join(names), self.now_ns())
        except Stale:
            return page(412, pages.message(INVITE_ENDED))
        return page(200, pages.message("You have accepted the invitation. You can close this page."))

    def _peer(self, names: tuple[str, ...], _asked: Asked) -> Answer:
        own = peer_id_text(self.hub.host_key.public_raw)
        if names != (own,):
            return _nothing()
        return page(200, json.dumps({"id": own, "addresses": []}).encode(), kind="application/json")

    # Content

    def _ipfs(self, names: tuple[str, ...], asked: Asked) -> Answer:
        if not names:
            return _nothing()
        root, path = cid_from_text(names[0]), read_path("/".join(names[1:]))
        tree = PublicTree(WorkingSet(self.hub.blockstore, absent=NotFound))
        url = _url("ipfs", names[0], *path)
        place = ContentPlace(tree, tree.find(root, path), path, None, url, FOREVER)
        return answer_place(place, asked, f"/ipfs/{cid_text(root)}")

    def _thread(self, names: tuple[str, ...], asked: Asked) -> Answer:
        if len(names) < 2:
            return _nothing()
        thread = self.hub.database.thread(thread_from_text(names[0]))
        if names[1] != "buckets":
            return _nothing()
        if len(names) == 2:
            return self._buckets(thread, asked)
        row = self.hub.database.bucket(thread.id, names[2])
        return self._bucket(row, thread, names[3:], asked, _url(*("thread", *names[:3])))

    def _buckets(self, thread: ThreadRow, asked: Asked) -> Answer:
        """The buckets of a thread of which the visitor may see something."""
        visitor = self._visitor(asked)
        seen = [
            row
            for row in self.hub.database.buckets(thread.id)
            if any(visitor.may_see(row, thread, at) for at in row.entries)
        ]
        rows = [pages.Row(_url("thread", thread_text(thread.id), "buckets", row.key), row.name or row.key) for row in seen]
        return page(200, pages.index("Buckets", rows, asked.token), BY_NAME)

    def _ipns(self, names: tuple[str, ...], asked: Asked) -> Answer:
        # A name has many spellings (base36, a bare multihash); the bucket's key is that in base32.
        return self._by_key(cid_text(name_from_text(names[0])), names[1:], asked) if names else _nothing()

    def _by_key(self, key: str, names: tuple[str, ...], asked: Asked, *, website: bool = False) -> Answer:
        row = self.hub.database.bucket_with_key(key)
        thread = self.hub.database.thread(row.thread)
        return self._bucket(row, thread, names, asked, "" if website else _url("ipns", key), website=website)

    def _bucket(
        self, row: BucketRow, thread: ThreadRow, names: tuple[str, ...], asked: Asked, url: str, *, website: bool = False
    ) -> Answer:
        visitor, path = self._visitor(asked), read_path("/".join(names))
        if not visitor.may_see(row, thread, path_text(path)) or SEED_NAME.encode() in path:
            return _nothing()
        tree = tree_of(WorkingSet(self.hub.blockstore, absent=NotFound), row.link_key)
        link = tree.find(row.root, path)
        if website and tree.is_directory(link.cid):
            path = (*path, b"index.html")
            link = tree.find(row.root, path)
        caching = BY_LINK if row.private or visitor.token else BY_NAME
        place = ContentPlace(tree, link, path, file_key(row, row.entries, path), url + _url(*path), caching)
        return answer_place(place, asked, path[-1].decode("utf-8", "replace") if path else row.name or row.key)

    def _visitor(self, asked: Asked) -> Visitor:
        return Visitor.with_token(self.hub.host_key, asked.token, self.now_ns())

    def _website(self, host: str) -> str:
        """The key of the bucket whose website ``host`` is, ``""`` for none."""
        domain = self.hub.config.bucket_domain
        return host.removesuffix(f".{domain}") if domain and host.endswith(f".{domain}") else ""


def _names(path: str) -> tuple[str, ...]:
    """The names of a path. Raises InvalidArgument for one that is not UTF-8, or that leads upwards."""
    try:
        names = [unquote_to_bytes(part).decode() for part in path.split("/") if part]
    except UnicodeDecodeError as error:
        raise InvalidArgument("a path that is not UTF-8") from error
    if any("/" in name or "\0" in name or name in (".", "..") for name in names):
        raise InvalidArgument("a path that leads elsewhere")
    return tuple(names)


def _url(*names: str | bytes) -> str:
    return "".join(f"/{quote(name, safe='')}" for name in names)


def _nothing() -> Answer:
    return page(404, pages.message(NOTHING))
