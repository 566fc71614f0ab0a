"""Accounts: the client of ``api.hubd.pb.APIService`` (textileio/textile ``api/hubd``). Billing and Filecoin are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bucketfs.client.channel import Channel
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.keys import Identity, KeyType, public_key_of
from bucketfs.wire import hub_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["APIService"]
MAIL_TIMEOUT_S = 31 * 60.0
"""Sign-up and sign-in wait until the link in a mail was opened, for at most half an hour."""


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """The developer behind a session."""

    public_key: str
    username: str
    email: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key. With ``secure`` calls must be signed with the secret; without, the key alone is enough."""

    key: str
    secret: str = field(repr=False)
    type: KeyType
    valid: bool
    threads: int
    secure: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an org; ``role`` is ``owner`` or ``member``."""

    public_key: str
    username: str
    role: str


@dataclass(frozen=True, slots=True)
class OrgInfo:
    """An org. ``slug`` is its name in the credentials."""

    public_key: str
    name: str
    slug: str
    host: str
    members: tuple[Member, ...]


class HubClient:
    """Each call raises what the channel raises: Exists for names taken, Unauthenticated, Denied, NotFound, Unsupported."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def signup(self, username: str, email: str) -> str:
        """The session (a secret) of a new developer account. Waits until the link in the mail was opened (or the Hub does without
        one)."""
        request = pb.SignupRequest(username=username, email=email)
        reply: pb.SignupResponse = await self._channel.unary(_SERVICE, "Signup", request, timeout_s=MAIL_TIMEOUT_S)
        return reply.session

    async def signin(self, username_or_email: str) -> str:
        """A new session (a secret) of an account; waits as ``signup`` does. Raises NotFound at once for an unknown account."""
        request = pb.SigninRequest(username_or_email=username_or_email)
        reply: pb.SigninResponse = await self._channel.unary(_SERVICE, "Signin", request, timeout_s=MAIL_TIMEOUT_S)
        return reply.session

    async def signout(self) -> None:
        """Ends the session of the credentials."""
        await self._channel.unary(_SERVICE, "Signout", pb.SignoutRequest())

    async def account(self) -> AccountInfo:
        """The developer who calls. Not for orgs and users."""
        reply: pb.GetSessionInfoResponse = await self._channel.unary(_SERVICE, "GetSessionInfo", pb.GetSessionInfoRequest())
        return AccountInfo(_public_key(reply.key), reply.username, reply.email)

    async def identity(self) -> Identity:
        """The key pair that the Hub holds for the acting account."""
        reply: pb.GetIdentityResponse = await self._channel.unary(_SERVICE, "GetIdentity", pb.GetIdentityRequest())
        try:
            return Identity.from_bytes(reply.identity)
        except InvalidArgument as error:
            raise Corrupt("the Hub answered with a private key that is none") from error

    async def create_key(self, kind: KeyType = KeyType.ACCOUNT, *, secure: bool = True) -> KeyInfo:
        """A new API key of the acting account, with its secret."""
        request = pb.CreateKeyRequest(type=pb.KeyType.Name(int(kind)), secure=secure)
        reply: pb.CreateKeyResponse = await self._channel.unary(_SERVICE, "CreateKey", request)
        return _key(reply.key_info)

    async def keys(self) -> Sequence[KeyInfo]:
        """All API keys of the acting account, invalid ones too."""
        reply: pb.ListKeysResponse = await self._channel.unary(_SERVICE, "ListKeys", pb.ListKeysRequest())
        return [_key(info) for info in reply.list]

    async def invalidate_key(self, key: str) -> None:
        """Ends an API key for good; it stays listed."""
        await self._channel.unary(_SERVICE, "InvalidateKey", pb.InvalidateKeyRequest(key=key))

    async def create_org(self, name: str) -> OrgInfo:
        """A new org with the caller as its owner."""
        reply: pb.CreateOrgResponse = await self._channel.unary(_SERVICE, "CreateOrg", pb.CreateOrgRequest(name=name))
        return _org(reply.org_info)

    async def org(self) -> OrgInfo:
        """The org of the credentials."""
        reply: pb.GetOrgResponse = await self._channel.unary(_SERVICE, "GetOrg", pb.GetOrgRequest())
        return _org(reply.org_info)

    async def orgs(self) -> Sequence[OrgInfo]:
        """The orgs the caller is a member of."""
        reply: pb.ListOrgsResponse = await self._channel.unary(_SERVICE, "ListOrgs", pb.ListOrgsRequest())
        return [_org(info) for info in reply.list]

    async def remove_org(self) -> None:
        """Destroys the org of the credentials, with its threads and keys."""
        await self._channel.unary(_SERVICE, "RemoveOrg", pb.RemoveOrgRequest())

    async def invite(self, email: str) -> str:
        """Invites someone into the org of the credentials; returns the token of the invitation."""
        reply: pb.InviteToOrgResponse = await self._channel.unary(
            _SERVICE, "InviteToOrg", pb.InviteToOrgRequest(email=email)
        )
        return reply.token

    async def leave_org(self) -> None:
        """Leaves the org of the credentials."""
        await self._channel.unary(_SERVICE, "LeaveOrg", pb.LeaveOrgRequest())

    async def destroy_account(self) -> None:
        """Destroys the acting developer's account with its threads, keys and sessions. Raises NotEmpty while it owns orgs."""
        await self._channel.unary(_SERVICE, "DestroyAccount", pb.DestroyAccountRequest())


def _key(info: pb.KeyInfo) -> KeyInfo:
    return KeyInfo(info.key, info.secret, KeyType(info.type or KeyType.ACCOUNT), info.valid, info.threads, info.secure)


def _org(info: pb.OrgInfo) -> OrgInfo:
    members = tuple(Member(_public_key(member.key), member.username, member.role) for member in info.members)
    return OrgInfo(_public_key(info.key), info.name, info.slug, info.host, members)


def _public_key(data: bytes) -> str:
    """``""`` where the Hub leaves it out: of what is asked, it may be the least."""
    try:
        return public_key_of(data) if data else ""
    except InvalidArgument as error:
        raise Corrupt("the Hub answered with a public key that is none") from error
