"""``api.hubd.pb``: developers, orgs, sessions and keys."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NoReturn

import bucketfs
from bucketfs.errors import Denied, Exists, NotFound, Refused
from bucketfs.hub.config import GATEWAY_URL
from bucketfs.hub.context import Hub
from bucketfs.hub.db import OWNER, AccountKind, AccountRow, KeyRow
from bucketfs.hub.rpc import (
    HUB,
    INSECURE_KEY,
    SESSION_NS,
    WARNING_TRAILER,
    Call,
    Code,
    Context,
    Service,
    Status,
    answered,
)
from bucketfs.hub.services import names
from bucketfs.keys import (
    API_KEY_BYTES,
    API_SECRET_BYTES,
    SESSION_BYTES,
    Identity,
    KeyType,
    public_key_bytes,
    random_text,
)
from bucketfs.wire import hub_pb2 as pb

NO_ORG_IDENTITY = "the private key of an organization stays at the hub: a member would keep it after leaving"
INVITE_NS = 210 * 24 * 3600 * 10**9


def service(hub: Hub) -> Service:
    """The service over this Hub."""
    accounts, keys, orgs = Accounts(hub), ApiKeys(hub), Orgs(hub)
    return Service(
        HUB,
        {
            "Signup": accounts.signup,
            "Signin": accounts.signin,
            "Signout": accounts.signout,
            "GetSessionInfo": accounts.session_info,
            "GetIdentity": accounts.identity,
            "IsUsernameAvailable": accounts.is_username_available,
            "DestroyAccount": accounts.destroy,
            "CreateKey": keys.create,
            "ListKeys": keys.list,
            "InvalidateKey": keys.invalidate,
            "CreateOrg": orgs.create,
            "GetOrg": orgs.get,
            "ListOrgs": orgs.list,
            "RemoveOrg": orgs.remove,
            "InviteToOrg": orgs.invite,
            "LeaveOrg": orgs.leave,
            "IsOrgNameAvailable": orgs.is_name_available,
            "BuildInfo": lambda _request, _context: pb.BuildInfoResponse(version=bucketfs.__version__),
            "SetupBilling": no_billing,
            "GetBillingSession": no_billing,
            "ListBillingUsers": no_billing,
        },
        waiting=frozenset({"Signup", "Signin"}),
    )


def no_billing(_request: Any, _context: Context) -> NoReturn:
    """Any method about billing."""
    raise Status(Code.UNKNOWN, "billing is not enabled")


@dataclass(frozen=True, slots=True)
class Accounts:
    """Sign-up, sign-in, and what an account learns of itself."""

    hub: Hub

    def signup(self, request: Any, context: Context) -> Any:
        if not self.hub.config.signups:
            raise Status(Code.UNKNOWN, "signups are disabled")
        if not names.is_username(request.username):
            raise Status(Code.FAILED_PRECONDITION, names.USERNAME_TEXT)
        _check_email(request.email)
        self.hub.confirmations.ask("sign-up", request.username, context)
        account = create_developer(self.hub, request.username, request.email)
        return pb.SignupResponse(key=public_key_bytes(account), session=create_session(self.hub, account))

    def signin(self, request: Any, context: Context) -> Any:
        account = self.hub.database.developer(request.username_or_email)
        self.hub.confirmations.ask("sign-in", account.username, context)
        session = create_session(self.hub, account.account)
        return pb.SigninResponse(key=public_key_bytes(account.account), session=session)

    def signout(self, _request: Any, context: Context) -> Any:
        session = context.call.session
        if session is None or not self.hub.database.delete_session(session):
            raise Status(Code.NOT_FOUND, "session not found")
        self.hub.events.look_again()
        return pb.SignoutResponse()

    def session_info(self, _request: Any, context: Context) -> Any:
        row = self.hub.database.account(developer_of(context.call))
        return pb.GetSessionInfoResponse(key=public_key_bytes(row.account), username=row.username, email=row.email)

    def identity(self, _request: Any, context: Context) -> Any:
        account = account_of(context.call)
        if context.call.account_kind is AccountKind.ORG:
            raise Status(Code.PERMISSION_DENIED, NO_ORG_IDENTITY)
        return pb.GetIdentityResponse(identity=Identity(self.hub.database.account(account).seed).private_bytes)

    def is_username_available(self, request: Any, _context: Context) -> Any:
        if not names.is_username(request.username):
            raise Status(Code.FAILED_PRECONDITION, names.USERNAME_TEXT)
        if self.hub.database.name_taken(request.username):
            raise Status(Code.FAILED_PRECONDITION, f"username '{request.username}' is not available")
        return pb.IsUsernameAvailableResponse()

    def destroy(self, _request: Any, context: Context) -> Any:
        with answered(Exists, Code.FAILED_PRECONDITION):
            self.hub.database.delete_account(developer_of(context.call))
        self.hub.events.look_again()
        return pb.DestroyAccountResponse()


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """API keys of the acting account."""

    hub: Hub

    def create(self, request: Any, context: Context) -> Any:
        owner = account_of(context.call)
        try:
            kind = KeyType(request.type or KeyType.ACCOUNT.value)
        except ValueError:
            raise Status(Code.INVALID_ARGUMENT, f"invalid key type: {request.type}") from None
        if not request.secure:
            self._warn_of_insecure(owner, context)
        return pb.CreateKeyResponse(key_info=_key_info(create_key(self.hub, owner, kind, secure=request.secure)))

    def _warn_of_insecure(self, owner: str, context: Context) -> None:
        if self.hub.config.refuse_insecure_keys:
            raise Status(Code.FAILED_PRECONDITION, "this hub refuses keys that need no signature: make a secure one")
        # The log does not get the key: it alone is enough to act.
        name = self.hub.database.account(owner).username
        self.hub.log.warning("%s makes a key that needs no signature: whoever sees it can use it", name)
        context.set_trailers({WARNING_TRAILER: INSECURE_KEY})

    def list(self, _request: Any, context: Context) -> Any:
        rows = self.hub.database.keys(account_of(context.call))
        return pb.ListKeysResponse(list=[_key_info(row) for row in rows])

    def invalidate(self, request: Any, context: Context) -> Any:
        owner = account_of(context.call)
        with answered(NotFound, Code.UNKNOWN), answered(Denied, Code.PERMISSION_DENIED):
            self.hub.database.invalidate_key(request.key, owner)
        self.hub.events.look_again()
        return pb.InvalidateKeyResponse()


@dataclass(frozen=True, slots=True)
class Orgs:
    """Organizations of developers."""

    hub: Hub

    def create(self, request: Any, context: Context) -> Any:
        owner = developer_of(context.call)
        slug = names.slug_of(request.name)
        if not slug:
            raise Status(Code.UNKNOWN, f"name '{request.name}' is not available")
        with answered(Exists, Code.UNKNOWN):
            org = _create(self.hub, AccountKind.ORG, slug, request.name, "", owner)
        return pb.CreateOrgResponse(org_info=self._info(org))

    def get(self, _request: Any, context: Context) -> Any:
        # An organization's own key may ask too (the original wants a developer): it has no other way to learn whose it is.
        account_of(context.call)
        if context.call.account_kind is not AccountKind.ORG:
            raise Status(Code.FAILED_PRECONDITION, "organization account required")
        return pb.GetOrgResponse(org_info=self._info(self.hub.database.account(context.call.account)))

    def list(self, _request: Any, context: Context) -> Any:
        orgs = self.hub.database.orgs_of(developer_of(context.call))
        return pb.ListOrgsResponse(list=[self._info(org) for org in orgs])

    def remove(self, _request: Any, context: Context) -> Any:
        org, developer = self._org(context.call)
        if self.hub.database.role_in(org, developer) != OWNER:
            raise Status(Code.PERMISSION_DENIED, "User must be an org owner")
        with answered(Exists, Code.FAILED_PRECONDITION):
            self.hub.database.delete_account(org)
        self.hub.events.look_again()
        return pb.RemoveOrgResponse()

    def invite(self, request: Any, context: Context) -> Any:
        org, developer = self._org(context.call)
        _check_email(request.email)
        token = random_text(SESSION_BYTES)
        self.hub.database.create_invite(token, org, developer, request.email, time.time_ns() + INVITE_NS)
        name = self.hub.database.account(org).name
        link = f"{self.hub.config.links_base or GATEWAY_URL}/consent/{token}"
        self.hub.confirmations.announce(f"invitation of {request.email} to {name}: {link}")
        return pb.InviteToOrgResponse(token=token)

    def leave(self, _request: Any, context: Context) -> Any:
        org, developer = self._org(context.call)
        with answered(Refused, Code.UNKNOWN):
            self.hub.database.leave_org(org, developer)
        self.hub.events.look_again()
        return pb.LeaveOrgResponse()

    def is_name_available(self, request: Any, _context: Context) -> Any:
        slug = names.slug_of(request.name)
        if not slug or self.hub.database.name_taken(slug):
            raise Status(Code.FAILED_PRECONDITION, f"the name '{request.name}' is already taken")
        return pb.IsOrgNameAvailableResponse(slug=slug, host=self.hub.config.links_base or GATEWAY_URL)

    def _org(self, caller: Call) -> tuple[str, str]:
        developer = developer_of(caller)
        if caller.account_kind is not AccountKind.ORG:
            raise Status(Code.INVALID_ARGUMENT, "organization account required")
        return caller.account, developer

    def _info(self, org: AccountRow) -> Any:
        return pb.OrgInfo(
            key=public_key_bytes(org.account),
            name=org.name,
            slug=org.username,
            host=self.hub.config.links_base or GATEWAY_URL,
            members=[
                pb.OrgInfo.Member(key=public_key_bytes(account.account), username=account.username, role=member.role)
                for member, account in self.hub.database.members(org.account)
            ],
            created_at=org.created_at_ns // 10**9,
        )


def account_of(caller: Call) -> str:
    """The acting developer or org. Raises Status for a user key, which has no account."""
    if caller.account_kind not in (AccountKind.DEVELOPER, AccountKind.ORG):
        raise Status(Code.INVALID_ARGUMENT, "account type not supported")
    return caller.account


def developer_of(caller: Call) -> str:
    """The developer behind a call. Raises Status for a user key and for an org's key."""
    account_of(caller)
    if caller.user is None:
        raise Status(Code.INVALID_ARGUMENT, "developer account required")
    return caller.user


def create_developer(hub: Hub, username: str, email: str) -> str:
    """Makes a developer, and a member of every org whose invitation waits for that email. Raises Status when taken."""
    with answered(Exists, Code.FAILED_PRECONDITION, "Account exists"):
        account = _create(hub, AccountKind.DEVELOPER, username, username, email, None).account
    hub.database.join_invited(account, email, time.time_ns())
    return account


def create_session(hub: Hub, account: str) -> str:
    """A fresh session of a developer."""
    session = random_text(SESSION_BYTES)
    hub.database.create_session(session, account, time.time_ns() + SESSION_NS)
    return session


def create_key(hub: Hub, owner: str, kind: KeyType, *, secure: bool) -> KeyRow:
    """A fresh API key of an account."""
    key, secret = random_text(API_KEY_BYTES), random_text(API_SECRET_BYTES)
    row = KeyRow(key, secret, owner, kind, secure=secure, valid=True)
    hub.database.create_key(row, time.time_ns())
    return row


def _create(hub: Hub, kind: AccountKind, username: str, name: str, email: str, owner: str | None) -> AccountRow:
    identity = Identity.generate()
    row = AccountRow(identity.public_key, kind, username, name, email, identity.seed, time.time_ns())
    hub.database.create_account(row, owner)
    return row


def _check_email(email: str) -> None:
    if not names.is_email(email):
        raise Status(Code.FAILED_PRECONDITION, "Email address in not valid")


def _key_info(row: KeyRow) -> Any:
    return pb.KeyInfo(
        key=row.key,
        secret=row.secret,
        type=pb.KeyType.Name(row.type.value),
        valid=row.valid,
        threads=row.threads,
        secure=row.secure,
    )
