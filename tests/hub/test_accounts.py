"""Accounts through a real server: signing up and in, keys, orgs, invitations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import pytest
from support.bucketuser import BucketUser
from support.keyring import USER, as_user, make_key

from bucketfs.dag import multibase_encode
from bucketfs.errors import NotFound, Stale
from bucketfs.hub import HubServer
from bucketfs.hub.services import names
from bucketfs.hub.services.accounts import NO_ORG_IDENTITY
from bucketfs.keys import Identity, make_token, public_key_bytes
from bucketfs.types import ThreadId
from bucketfs.wire import hub_pb2 as pb

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"


def test_signing_up(caller: Any, hub_server: HubServer) -> None:
    """A new user would get no account, no session, or an identity that is not theirs."""
    reply = caller.call(HUB, "Signup", pb.SignupRequest(username="alice", email="Alice@example.org"))
    assert len(reply.key) == 36
    assert len(reply.session) == 72
    alice = caller.using(x_textile_session=reply.session)
    info = alice.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest())
    assert (info.key, info.username, info.email) == (reply.key, "alice", "Alice@example.org")
    identity = Identity.from_bytes(alice.call(HUB, "GetIdentity", pb.GetIdentityRequest()).identity)
    assert identity.public_bytes == reply.key
    assert hub_server.hub.database.account(identity.public_key).username == "alice"


@pytest.mark.parametrize(
    ("username", "email", "text"),
    [
        ("al ice", "a@b.c", names.USERNAME_TEXT),
        ("-alice", "a@b.c", names.USERNAME_TEXT),
        ("a-l-i", "a@b.c", names.USERNAME_TEXT),
        ("", "a@b.c", names.USERNAME_TEXT),
        ("alice", "", "Email address in not valid"),
        ("alice", "alice", "Email address in not valid"),
        ("alice", "a@b@c", "Email address in not valid"),
        ("alice", "a b@c", "Email address in not valid"),
    ],
)
def test_bad_names_and_emails(caller: Any, username: str, email: str, text: str) -> None:
    """Accounts with names that break links, or with mail addresses that reach no one, could be made."""
    refused = caller.refused(HUB, "Signup", pb.SignupRequest(username=username, email=email))
    assert refused == ("FAILED_PRECONDITION", text)


def test_names_and_emails_are_unique_without_case(caller: Any, alice: Any) -> None:
    """A stranger could sign up as "ALICE", and be taken for alice."""
    exists = ("FAILED_PRECONDITION", "Account exists")
    assert caller.refused(HUB, "Signup", pb.SignupRequest(username="ALICE", email="x@example.org")) == exists
    assert caller.refused(HUB, "Signup", pb.SignupRequest(username="other", email="ALICE@example.org")) == exists
    assert caller.call(HUB, "IsUsernameAvailable", pb.IsUsernameAvailableRequest(username="free")) is not None
    taken = caller.refused(HUB, "IsUsernameAvailable", pb.IsUsernameAvailableRequest(username="Alice"))
    assert taken == ("FAILED_PRECONDITION", "username 'Alice' is not available")
    bad = caller.refused(HUB, "IsUsernameAvailable", pb.IsUsernameAvailableRequest(username="a--b"))
    assert bad == ("FAILED_PRECONDITION", names.USERNAME_TEXT)


def test_two_sign_ups_at_once_make_one_account(caller: Any) -> None:
    """Two people who sign up at the same moment would share a name."""

    def sign_up(number: int) -> str:
        try:
            caller.call(HUB, "Signup", pb.SignupRequest(username="twin", email=f"twin{number}@example.org"))
        except grpc.RpcError as error:
            return str(error.details())
        return "made"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(sign_up, range(8)))
    assert sorted(outcomes) == ["Account exists"] * 7 + ["made"]


def test_signing_in_and_out(caller: Any, alice: Any) -> None:
    """A user could not sign in by name or mail, or a session would go on after signing out."""
    for who in ("alice", "alice@example.org"):
        session = caller.call(HUB, "Signin", pb.SigninRequest(username_or_email=who)).session
        again = caller.using(x_textile_session=session)
        assert again.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()).username == "alice"
        again.call(HUB, "Signout", pb.SignoutRequest())
        assert again.refused(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()) == ("UNAUTHENTICATED", "Invalid session")
    unknown = caller.refused(HUB, "Signin", pb.SigninRequest(username_or_email="nobody"))
    assert unknown == ("NOT_FOUND", "User not found")
    assert alice.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()).username == "alice"


def test_a_hub_may_refuse_strangers(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """Strangers could make accounts at a Hub whose operator allows none."""
    caller = dial(start_hub(signups=False).address)
    refused = caller.refused(HUB, "Signup", pb.SignupRequest(username="eve", email="e@example.org"))
    assert refused == ("UNKNOWN", "signups are disabled")


class Links:
    """Collects what a hub announces."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._came = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._came:
            self.lines.append(line)
            self._came.notify_all()

    def wait(self, count: int) -> str:
        """The last part of the latest link, once there are ``count``."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.lines) >= count, 20)
            return self.lines[-1].rpartition("/")[2]


def test_a_sign_up_waits_for_its_link(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """A stranger could sign up with another person's mail address, or use a link twice."""
    links = Links()
    server = start_hub(auto_confirm=False, announce=links)
    caller = dial(server.address)
    waiting = caller.start(HUB, "Signup", pb.SignupRequest(username="alice", email="a@example.org"))
    secret = links.wait(1)
    assert len(secret) == 72
    assert links.lines[0].endswith(f"http://127.0.0.1:8006/confirm/{secret}")
    assert not waiting.done()
    assert server.hub.confirmations.confirm("another") == 0
    assert server.hub.confirmations.confirm(secret) == 1
    assert len(waiting.result().session) == 72
    assert server.hub.confirmations.confirm(secret) == 0


def test_a_fixed_secret_releases_everyone_who_waits(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """Test suites of Textile clients, which confirm with a fixed secret, could not sign up here."""
    links = Links()
    server = start_hub(auto_confirm=False, announce=links, confirm_secret="hubsession")
    caller = dial(server.address)
    assert server.hub.confirmations.confirm("hubsession") == 0
    calls = [caller.start(HUB, "Signup", pb.SignupRequest(username=f"user{n}", email=f"u{n}@example.org")) for n in range(3)]
    links.wait(3)
    assert server.hub.confirmations.confirm("hubsession") == 3
    assert len({call.result().session for call in calls}) == 3


def test_nobody_followed_the_link(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """A sign-up that was never confirmed would hang for ever, or reserve its name for ever."""
    caller = dial(start_hub(auto_confirm=False, announce=Links(), confirm_timeout_s=0.05).address)
    refused = caller.refused(HUB, "Signup", pb.SignupRequest(username="alice", email="a@example.org"))
    assert refused == ("UNAUTHENTICATED", "Could not verify email address")
    assert caller.call(HUB, "IsUsernameAvailable", pb.IsUsernameAvailableRequest(username="alice")) is not None


def test_who_gave_up_waiting_makes_no_account(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """A name would be taken by a sign-up that was cancelled, and the person could not sign up again."""
    links = Links()
    server = start_hub(auto_confirm=False, announce=links)
    caller = dial(server.address)
    waiting = caller.start(HUB, "Signup", pb.SignupRequest(username="alice", email="a@example.org"))
    secret = links.wait(1)
    waiting.cancel()
    other = caller.start(HUB, "Signup", pb.SignupRequest(username="bob", email="b@example.org"))
    second = links.wait(2)
    server.hub.confirmations.confirm(second)
    other.result()
    server.hub.confirmations.confirm(secret)
    assert not server.hub.database.name_taken("alice")


def test_keys(caller: Any, alice: Any, bob: Any) -> None:
    """A user could not make, list or end a key, or could end the key of another account."""
    made = alice.call(HUB, "CreateKey", pb.CreateKeyRequest(secure=True)).key_info
    assert (len(made.key), len(made.secret), made.type) == (27, 40, pb.KEY_TYPE_ACCOUNT)
    assert (made.valid, made.secure, made.threads) == (True, True, 0)
    user = alice.call(HUB, "CreateKey", pb.CreateKeyRequest(type=pb.KEY_TYPE_USER)).key_info
    assert (user.type, user.secure) == (pb.KEY_TYPE_USER, False)
    assert alice.refused(HUB, "CreateKey", pb.CreateKeyRequest(type=cast(Any, 7))) == (
        "INVALID_ARGUMENT",
        "invalid key type: 7",
    )
    assert [key.key for key in alice.call(HUB, "ListKeys", pb.ListKeysRequest()).list] == [made.key, user.key]
    assert list(bob.call(HUB, "ListKeys", pb.ListKeysRequest()).list) == []
    not_own = bob.refused(HUB, "InvalidateKey", pb.InvalidateKeyRequest(key=made.key))
    assert not_own == ("PERMISSION_DENIED", "User does not own key")
    unknown = alice.refused(HUB, "InvalidateKey", pb.InvalidateKeyRequest(key="x"))
    assert unknown == ("UNKNOWN", "mongo: no documents in result")
    insecure = alice.call(HUB, "CreateKey", pb.CreateKeyRequest()).key_info
    by_key = caller.using(x_textile_api_key=insecure.key)
    assert by_key.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()).username == "alice"
    assert by_key.refused(HUB, "Signout", pb.SignoutRequest()) == ("NOT_FOUND", "session not found")
    alice.call(HUB, "InvalidateKey", pb.InvalidateKeyRequest(key=insecure.key))
    dead = by_key.refused(HUB, "GetSessionInfo", pb.GetSessionInfoRequest())
    assert dead == ("NOT_FOUND", "API key not found or is invalid")
    assert [key.valid for key in alice.call(HUB, "ListKeys", pb.ListKeysRequest()).list] == [True, True, False]


def test_user_keys_have_no_account(caller: Any, alice: Any, hub_server: HubServer) -> None:
    """The user of an app could act for the account of the app's developer."""
    key = alice.call(HUB, "CreateKey", pb.CreateKeyRequest(type=pb.KEY_TYPE_USER)).key_info.key
    owner = multibase_encode(alice.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()).key)
    token = make_token(hub_server.hub.host_key, Identity.generate().public_key, 0, owner)
    user = caller.using(x_textile_api_key=key, authorization=f"bearer {token}")
    for method, request in (
        ("GetIdentity", pb.GetIdentityRequest()),
        ("CreateKey", pb.CreateKeyRequest()),
        ("GetSessionInfo", pb.GetSessionInfoRequest()),
        ("DestroyAccount", pb.DestroyAccountRequest()),
    ):
        assert user.refused(HUB, method, request) == ("INVALID_ARGUMENT", "account type not supported")
    assert user.refused(HUB, "Signout", pb.SignoutRequest()) == ("NOT_FOUND", "session not found")
    assert user.call(HUB, "BuildInfo", pb.BuildInfoRequest()).version
    assert user.call(HUB, "IsOrgNameAvailable", pb.IsOrgNameAvailableRequest(name="My org")).slug == "My-org"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My awesome org!", "My-awesome-org"),
        ("org.0.123", "org-0-123"),
        ("Ünïcode", "Unicode"),
        ("--a  b--", "a-b"),
        ("!!!", ""),
        ("a" * 40, "a" * 32),
        ("one-two-three-four-five-six-seven-eight", "one-two-three-four-five-six"),
        ("x" * 30 + "-yy", "x" * 30),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    """An organization would get another short name than at a Textile Hub, and its links and scripts would break."""
    assert names.slug_of(name) == slug


def test_orgs(caller: Any, alice: Any, bob: Any, hub_server: HubServer) -> None:
    """An organization would be visible to outsiders, hand out its private key, or vanish with one member's account."""
    made = alice.call(HUB, "CreateOrg", pb.CreateOrgRequest(name="Our org!")).org_info
    assert (made.name, made.slug, len(made.key)) == ("Our org!", "Our-org", 36)
    assert [(member.username, member.role) for member in made.members] == [("alice", "owner")]
    assert 0 < made.created_at < 10**11
    code, text = alice.refused(HUB, "CreateOrg", pb.CreateOrgRequest(name="our ORG"))
    assert code == "UNKNOWN"
    assert "E11000 duplicate key error" in text
    assert bob.refused(HUB, "CreateOrg", pb.CreateOrgRequest(name="!")) == ("UNKNOWN", "name '!' is not available")
    taken = bob.refused(HUB, "IsOrgNameAvailable", pb.IsOrgNameAvailableRequest(name="Our.org"))
    assert taken == ("FAILED_PRECONDITION", "the name 'Our.org' is already taken")
    needed = alice.refused(HUB, "GetOrg", pb.GetOrgRequest())
    assert needed == ("FAILED_PRECONDITION", "organization account required")

    org = alice.using(x_textile_org="Our-org")
    assert org.call(HUB, "GetOrg", pb.GetOrgRequest()).org_info.slug == "Our-org"
    kept = ("PERMISSION_DENIED", NO_ORG_IDENTITY)
    assert org.refused(HUB, "GetIdentity", pb.GetIdentityRequest()) == kept
    assert org.call(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()).username == "alice"
    assert [one.slug for one in alice.call(HUB, "ListOrgs", pb.ListOrgsRequest()).list] == ["Our-org"]
    assert list(bob.call(HUB, "ListOrgs", pb.ListOrgsRequest()).list) == []

    key = org.call(HUB, "CreateKey", pb.CreateKeyRequest()).key_info.key
    by_key = caller.using(x_textile_api_key=key)
    developer = ("INVALID_ARGUMENT", "developer account required")
    for method, request in (("LeaveOrg", pb.LeaveOrgRequest()), ("CreateOrg", pb.CreateOrgRequest(name="x"))):
        assert by_key.refused(HUB, method, request) == developer
    assert by_key.refused(HUB, "GetIdentity", pb.GetIdentityRequest()) == kept
    assert by_key.call(HUB, "GetOrg", pb.GetOrgRequest()).org_info.key == made.key
    destroy = alice.refused(HUB, "DestroyAccount", pb.DestroyAccountRequest())
    assert destroy == ("FAILED_PRECONDITION", "Account not empty (delete orgs first)")


def test_invitations(sign_up: Any, alice: Any, bob: Any, hub_server: HubServer) -> None:
    """An invitation could be used twice or after its end, or a member could remove the organization."""
    alice.call(HUB, "CreateOrg", pb.CreateOrgRequest(name="club"))
    club = alice.using(x_textile_org="club")
    bad = club.refused(HUB, "InviteToOrg", pb.InviteToOrgRequest(email="nonsense"))
    assert bad == ("FAILED_PRECONDITION", "Email address in not valid")
    metadata, later = hub_server.hub.database, 2**62
    token = club.call(HUB, "InviteToOrg", pb.InviteToOrgRequest(email="Bob@example.org")).token
    assert len(token) == 72
    metadata.accept_invite(token, time.time_ns())
    assert bob.using(x_textile_org="club").call(HUB, "GetOrg", pb.GetOrgRequest()).org_info.members[1].role == "member"
    for used in (token, "unknown"):
        with pytest.raises(NotFound, match="no such invitation"):
            metadata.accept_invite(used, 0)
    stale = club.call(HUB, "InviteToOrg", pb.InviteToOrgRequest(email="x@example.org")).token
    with pytest.raises(Stale):
        metadata.accept_invite(stale, later)

    waiting = club.call(HUB, "InviteToOrg", pb.InviteToOrgRequest(email="carol@example.org")).token
    metadata.accept_invite(waiting, 0)
    carol = sign_up("carol")
    assert [one.slug for one in carol.call(HUB, "ListOrgs", pb.ListOrgsRequest()).list] == ["club"]

    members = bob.using(x_textile_org="club")
    refused = members.refused(HUB, "RemoveOrg", pb.RemoveOrgRequest())
    assert refused == ("PERMISSION_DENIED", "User must be an org owner")
    members.call(HUB, "LeaveOrg", pb.LeaveOrgRequest())
    assert members.refused(HUB, "GetOrg", pb.GetOrgRequest()) == ("PERMISSION_DENIED", "User is not an org member")
    last = club.refused(HUB, "LeaveOrg", pb.LeaveOrgRequest())
    assert last == ("UNKNOWN", "an org must have at least one owner")
    club.call(HUB, "RemoveOrg", pb.RemoveOrgRequest())
    alice.call(HUB, "DestroyAccount", pb.DestroyAccountRequest())
    assert alice.refused(HUB, "GetSessionInfo", pb.GetSessionInfoRequest()) == ("UNAUTHENTICATED", "Invalid session")


@pytest.mark.parametrize("as_org", [False, True])
def test_an_account_stays_while_its_users_have_buckets(caller: Any, alice: Any, hub_server: HubServer, as_org: bool) -> None:
    """Destroying an account would destroy the files of its app's users."""
    owner = alice
    end: tuple[str, Any] = ("DestroyAccount", pb.DestroyAccountRequest())
    if as_org:
        alice.call(HUB, "CreateOrg", pb.CreateOrgRequest(name="club"))
        owner, end = alice.using(x_textile_org="club"), ("RemoveOrg", pb.RemoveOrgRequest())
    app = caller.using(**make_key(owner, USER).headers())
    user = BucketUser.with_new_thread(as_user(app, Identity.generate()))
    key = user.create().root.key
    user.push(key, "f", b"theirs")
    assert owner.refused(HUB, *end) == ("FAILED_PRECONDITION", "Account not empty (delete buckets first)")
    assert user.pull(key, "f") == b"theirs"
    user.ask("Remove", key=key)
    owner.call(HUB, *end)
    assert user.refused("List") == ("NOT_FOUND", "API key not found or is invalid")
    with pytest.raises(NotFound):
        hub_server.hub.database.thread(ThreadId(user.thread))


def test_there_is_no_billing(alice: Any) -> None:
    """A Textile client that asks for billing would hang or crash instead of going on without."""
    from bucketfs.wire import users_pb2

    billing = ("UNKNOWN", "billing is not enabled")
    assert alice.refused(HUB, "SetupBilling", pb.SetupBillingRequest()) == billing
    assert alice.refused(HUB, "GetBillingSession", pb.GetBillingSessionRequest()) == billing
    assert alice.refused(HUB, "ListBillingUsers", pb.ListBillingUsersRequest()) == billing
    assert alice.refused(USERS, "GetUsage", users_pb2.GetUsageRequest()) == billing


def test_public_keys_have_36_bytes() -> None:
    """Textile clients could not read the keys of members and accounts."""
    assert len(public_key_bytes(Identity.generate().public_key)) == 36
