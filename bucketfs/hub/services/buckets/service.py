"""The bucket service, ``api.bucketsd.pb.APIService``: the table of its methods, and making buckets.

Reading is in read.py, pushing in push.py, other changes in edit.py; all of them go through one
``BucketWriter`` (write.py). Archiving needs a Filecoin service behind the Hub, which this one has not.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any

from bucketfs.dag import cid_text, empty_directory
from bucketfs.errors import Corrupt, NotFound
from bucketfs.hub.context import BucketAction, Hub
from bucketfs.hub.db import BUCKET_VERSION, BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Context, Service, Status
from bucketfs.hub.services.buckets.edit import Editing
from bucketfs.hub.services.buckets.messages import link_token, links_message, root_message
from bucketfs.hub.services.buckets.new_roots import Seeded, check_sealable, fetch_remote, with_new_seed
from bucketfs.hub.services.buckets.paths import Path
from bucketfs.hub.services.buckets.push import Pushing
from bucketfs.hub.services.buckets.read import Reading
from bucketfs.hub.services.buckets.write import BucketWriter
from bucketfs.hub.trees import BucketTree, PrivateTree, PublicTree, WorkingSet, access, new_key
from bucketfs.keys import fresh_bucket_key
from bucketfs.names import SEED_NAME, bucket_name_fault
from bucketfs.roles import EVERYBODY, Role
from bucketfs.types import Cid, Link
from bucketfs.wire import buckets_pb2 as pb

NAME = "api.bucketsd.pb.APIService"


def service(hub: Hub) -> Service:
    """The service over these stores."""
    writer = BucketWriter(hub)
    reading, pushing, editing = Reading(writer), Pushing(writer), Editing(writer)
    return Service(
        NAME,
        {
            "List": reading.list_buckets,
            "Create": Making(writer).create,
            "Root": reading.root,
            "Links": reading.links,
            "ListPath": reading.list_path,
            "ListIpfsPath": reading.list_ipfs_path,
            "PushPath": pushing.push_path,
            "PushPaths": pushing.push_paths,
            "PullPath": reading.pull_path,
            "PullIpfsPath": reading.pull_ipfs_path,
            "SetPath": editing.set_path,
            "MovePath": editing.move_path,
            "Remove": editing.remove,
            "RemovePath": editing.remove_path,
            "PushPathAccessRoles": editing.push_roles,
            "PullPathAccessRoles": reading.pull_roles,
            "Archives": reading.archives,
        },
        unimplemented="is not offered: this hub has no archive (Filecoin) service",
    )


class Making:
    """``Create``."""

    def __init__(self, writer: BucketWriter) -> None:
        self._writer = writer

    def create(self, request: Any, context: Context) -> Any:
        """A new bucket: a seed, and what a bootstrap CID brings, encrypted when it is to be private."""
        thread = self._writer.thread(context.call)
        if request.unfreeze:
            raise Status(Code.UNIMPLEMENTED, "unfreezing is not offered: this hub has no archive (Filecoin) service")
        fault = bucket_name_fault(request.name)
        if fault:
            raise Status(Code.INVALID_ARGUMENT, f"no bucket can be called that: {fault}")
        hub = self._writer.hub
        hub.database.thread(thread)
        link_key, key = (new_key(), new_key()) if request.private else (None, None)
        upload = secrets.token_bytes(16)
        admission = hub.upload_quota.of(context.call.payer, upload)
        blocks = WorkingSet(hub.blockstore, upload, check=context.check_active, admission=admission)
        tree = PublicTree(blocks) if link_key is None else PrivateTree(blocks, link_key)
        owner = context.call.writer or ""
        now_ns = time.time_ns()
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
        access.check_create(row, context.call.writer)
        made = self._first_root(row, tree, request.bootstrap_cid, key)
        size_bytes = made.root.tsize if link_key is None else PrivateTree(blocks, link_key).growth(None, made.root)
        self._writer.check_quota(row, size_bytes, new=True)
        blocks.store_for(made.root.cid)
        row = hub.database.create_bucket(replace(row, root=made.root.cid, size_bytes=size_bytes), hub.config.limits)
        hub.blockstore.release(upload)
        hub.upload_quota.drop(context.call.payer, upload)
        hub.events.publish(thread, row.key, BucketAction.CREATE)
        return pb.CreateResponse(
            root=root_message(row),
            links=links_message(hub.config, row, (), link_token(hub.host_key, row, (), context.call.writer, now_ns)),
            seed=made.seed,
            seed_cid=cid_text(made.seed_cid),
            pinned=made.root.tsize + (made.seed_size_bytes if row.private else 0),
        )

    def _first_root(self, row: BucketRow, tree: BucketTree, bootstrap: str, key: bytes | None) -> Seeded:
        def key_of(_path: Path) -> bytes | None:
            return key

        try:
            if bootstrap:
                remote = fetch_remote(self._writer, tree, bootstrap, what="invalid bootstrap cid")
                check_sealable(self._writer, row, tree, remote, new=True)
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
