"""Threads: the client of ``threads.pb.API`` (go-threads ``api``), as far as buckets and mail need it.

These methods act as the bearer of the token in the credentials, and anonymously without one, also for a developer with a session or
an account key; the bucket service uses the account's own token instead.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bucketfs.client.channel import Channel
from bucketfs.client.streams import Replies
from bucketfs.errors import Unauthenticated
from bucketfs.keys import Identity
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["API"]


class InstanceAction(enum.Enum):
    """What happened to an instance of a collection."""

    CREATE = 0
    SAVE = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """One change seen by ``listen``. ``instance`` is its JSON as the listener may read it; empty after a DELETE."""

    collection: str
    instance_id: str
    action: InstanceAction
    instance: bytes


class ThreadsClient:
    """Each call raises what the channel raises."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def token(self, identity: Identity) -> str:
        """A token for the user ``identity``, who signs the Hub's challenge. Tokens do not expire."""
        async with self._channel.stream_both(_SERVICE, "GetToken", _as_it_is) as dialogue:
            await dialogue.send(pb.GetTokenRequest(key=identity.public_key))
            challenge = await dialogue.receive()
            if challenge is None or not challenge.challenge:
                raise Unauthenticated("GetToken: the Hub sent no challenge")
            await dialogue.send(pb.GetTokenRequest(signature=identity.sign(challenge.challenge)))
            dialogue.finish()
            reply = await dialogue.receive()
            if reply is None or not reply.token:
                raise Unauthenticated("GetToken: the Hub sent no token")
            return reply.token

    async def create(self, thread: ThreadId, name: str = "") -> None:
        """Makes the thread ``thread``, found under ``name`` from then on. Names are letters, digits and single hyphens.
        Raises Exists when the account has the name (compared without case) or the thread already, OverQuota."""
        # The Hub keeps the name of the header, ThreadDB the one of the field.
        request = pb.NewDBRequest(dbID=thread, name=name)
        await self._channel.unary(_SERVICE, "NewDB", request, thread_name=name)

    async def delete(self, thread: ThreadId) -> None:
        """Deletes the thread. Raises NotFound, NotEmpty while it has buckets, Denied when it is another's."""
        await self._channel.unary(_SERVICE, "DeleteDB", pb.DeleteDBRequest(dbID=thread))

    async def instances(self, thread: ThreadId, collection: str, query: bytes = b"{}") -> Sequence[bytes]:
        """The instances (JSON) of a collection that match ``query``, as the caller may read them. Raises NotFound."""
        request = pb.FindRequest(dbID=thread, collectionName=collection, queryJSON=query)
        reply: pb.FindReply = await self._channel.unary(_SERVICE, "Find", request, thread=thread)
        return list(reply.instances)

    def listen(self, thread: ThreadId, collection: str = "", instance_id: str = "") -> Replies[InstanceChange]:
        """Changes without end or deadline, to be entered with ``async with`` and iterated; empty filters match everything. A change
        that is committed after ``begun`` has returned is only missed by a listener that is too slow."""
        chosen = pb.ListenRequest.Filter(collectionName=collection, instanceID=instance_id)
        request = pb.ListenRequest(dbID=thread, filters=[chosen] if collection or instance_id else [])
        return self._channel.stream_out(_SERVICE, "Listen", request, _change, thread=thread, timeout_s=float("inf"))


def _as_it_is(reply: pb.GetTokenReply) -> pb.GetTokenReply:
    return reply


def _change(reply: pb.ListenReply) -> InstanceChange:
    return InstanceChange(reply.collectionName, reply.instanceID, InstanceAction(reply.action), reply.instance)
