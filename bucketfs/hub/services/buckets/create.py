"""``Create``: a new bucket, with a seed and what a bootstrap CID brings, encrypted when it is to be private."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any

from bucketfs.dag import cid_text, empty_directory
from bucketfs.errors import Corrupt, NotFound
from bucketfs.hub.context import EventAction
from bucketfs.hub.db import BUCKET_VERSION, BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.hub.services.buckets.incoming import SeededRoot, check_sealable, fetch_remote, with_new_seed
from bucketfs.hub.services.buckets.messages import link_token, links_message, root_message
from bucketfs.hub.services.buckets.writer import BucketWriter
from bucketfs.hub.trees import BucketTree, Path, access, new_key
from bucketfs.keys import fresh_bucket_key
from bucketfs.names import SEED_NAME, bucket_name_fault
from bucketfs.roles import EVERYBODY, Role
from bucketfs.types import Cid, Link
from bucketfs.wire import buckets_pb2 as pb


def create(writer: BucketWriter, request: Any, context: Context) -> Any:
    """The method."""
    hub, caller = writer.hub, context.call
    thread = writer.thread(caller)
    if request.unfreeze:
        raise Status(Code.UNIMPLEMENTED, "unfreezing is not offered: this hub has no archive (Filecoin) service")
    fault = bucket_name_fault(request.name)
    if fault:
        raise Status(Code.INVALID_ARGUMENT, f"no bucket can be called that: {fault}")
    hub.database.thread(thread)
    link_key, key = (new_key(), new_key()) if request.private else (None, None)
    owner, now_ns = caller.writer or "", time.time_ns()
    row = BucketRow(
        key=fresh_bucket_key(),
        thread=thread,
        owner=owner,
        name=request.name,
        version=BUCKET_VERSION,
        link_key=link_key,
        root=Cid(b""),
        entries={
            "": PathEntry(key, _first_roles(owner, request.private), now_ns),
            SEED_NAME: PathEntry(None, {}, now_ns),
        },
        created_at_ns=now_ns,
        updated_at_ns=now_ns,
    )
    access.check_create(row, caller.writer)
    upload = secrets.token_bytes(16)
    admission = hub.upload_quota.of(caller.payer, upload)
    tree = writer.tree(row, upload, check=context.check_active, admission=admission)
    made = _first_root(writer, row, tree, request.bootstrap_cid, key)
    size_bytes = tree.size(made.root)
    writer.check_quota(row, size_bytes, new=True)
    # Blocks first, then the row that names them, then the end of their lease (the collector), then the announcement.
    tree.blocks.store_for(made.root.cid)
    row = hub.database.create_bucket(replace(row, root=made.root.cid, size_bytes=size_bytes), hub.config.limits)
    hub.blockstore.release(upload)
    hub.upload_quota.drop(caller.payer, upload)
    hub.events.publish(thread, row.key, EventAction.CREATE)
    return pb.CreateResponse(
        root=root_message(row),
        links=links_message(hub.config, row, (), link_token(hub.host_key, row, (), caller.writer, now_ns)),
        seed=made.seed,
        seed_cid=cid_text(made.seed_cid),
        pinned=made.root.tsize + (made.seed_size_bytes if row.private else 0),
    )


def _first_root(writer: BucketWriter, row: BucketRow, tree: BucketTree, bootstrap: str, key: bytes | None) -> SeededRoot:
    def key_of(_path: Path) -> bytes | None:
        return key

    try:
        if bootstrap:
            remote = fetch_remote(writer, tree, bootstrap, what="invalid bootstrap cid")
            check_sealable(writer, row, tree, remote, new=True)
            start = tree.bring_in(remote, key_of, ())
            if not tree.is_directory(start.cid):
                raise Status(Code.UNKNOWN, "creating prepared bucket: not a directory")
        else:
            start = _empty(tree)
        return with_new_seed(tree, start, key)
    except (NotFound, Corrupt) as error:
        raise Status(Code.UNKNOWN, f"creating prepared bucket: {error}") from error


def _empty(tree: BucketTree) -> Link:
    empty = empty_directory()
    tree.blocks.add(empty.blocks)
    return tree.bring_in(empty.link, lambda _path: None, ())


def _first_roles(owner: str, private: bool) -> dict[str, int]:
    if not owner:
        return {}
    return {owner: Role.ADMIN} if private else {owner: Role.ADMIN, EVERYBODY: Role.READER}
