"""AccountManagementAPI and the Foundation layer's accounts: keys, users, groups and accounts by the vendor's SDK."""

from __future__ import annotations

import re

from tests.sdk.lab import SdkLab


def test_keys_are_made_changed_found_and_revoked(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud import AccountManagementAPI

accounts = AccountManagementAPI(config)
groups = {each.name: each.id for each in accounts.list_groups()}
made = accounts.add_api_key(name="by the SDK", groups=[groups["Readers"]])
said["key"], said["id"] = made.key, made.id
said["groups"] = [made.groups == [groups["Readers"]], len(groups)]
said["status"] = made.status
said["created"] = [str(made.created_at), str(made.last_login_time), made.creation_time]
said["got"] = accounts.get_api_key(made.id).name
step("used")
said["used"] = str(accounts.get_api_key(made.id).last_login_time)
changed = accounts.update_api_key(made.id, name="renamed", status="INACTIVE")
said["changed"] = [changed.name, changed.status, changed.key]
said["listed"] = [each.name for each in accounts.list_api_keys() if each.id == made.id]
said["by_owner"] = made.id in [each.id for each in accounts.list_api_keys(filters={"owner_id": {"$eq": made.owner_id}})]
said["members"] = [each.id for each in accounts.list_group_api_keys(groups["Readers"])] == [made.id]
accounts.delete_api_key(made.id)
said["gone"] = accounts.get_api_key(made.id)
said["paged"] = len(list(accounts.list_api_keys(limit=2)))
""",
        steps={"used": lambda: used(lab, "by the SDK")},
    )
    assert re.fullmatch(r"ak_1[0-9a-f]{32}[A-Za-z0-9]{32}", said["key"]) and said["id"] in said["key"]
    assert said["groups"] == [True, 3] and said["status"] == "ACTIVE"
    assert said["got"] == "by the SDK" and said["changed"] == ["renamed", "INACTIVE", said["key"][:36]]
    assert said["listed"] == ["renamed"] and said["by_owner"] and said["members"] and said["gone"] is None
    assert said["paged"] >= 1 and said["used"] != "None"


def used(lab: SdkLab, name: str) -> None:
    """Give a key another secret, and use that."""
    (key,) = lab.rest.get("/v3/api-keys", params={"name__eq": name}).json()["data"]
    made = lab.rest.post(f"/v3/api-keys/{key['id']}/reset-secret").json()["key"]
    assert lab.rest.get("/v3/api-keys/me", headers={"Authorization": f"Bearer {made}"}).status_code == 200


def test_users_are_added_changed_found_and_deleted(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud import AccountManagementAPI

accounts = AccountManagementAPI(config)
groups = {each.name: each.id for each in accounts.list_groups()}
made = accounts.add_user("desk.four", "desk4@example.org", full_name="Desk 4", groups=[groups["Developers"]])
said["made"] = [made.username, made.email, made.status, made.groups == [groups["Developers"]]]
said["flags"] = [made.email_verified, made.two_factor_authentication, made.terms_accepted, made.marketing_accepted]
said["times"] = [str(made.created_at), str(made.last_login_time), made.login_history]
changed = accounts.update_user(made.id, full_name="Desk Four", phone_number="1234", status="INACTIVE")
said["changed"] = [changed.full_name, changed.phone_number, changed.status]
said["got"] = accounts.get_user(made.id).full_name
said["found"] = [each.id for each in accounts.list_users(filters={"email": {"$eq": "desk4@example.org"}})] == [made.id]
said["by_status"] = [each.id for each in accounts.list_users(filters={"status": {"$in": ["INACTIVE"]}})] == [made.id]
said["members"] = [each.id for each in accounts.list_group_users(groups["Developers"])] == [made.id]
try:
    accounts.add_user("desk.five", "desk4@example.org")
except Exception as error:
    said["again"] = error.status
accounts.delete_user(made.id)
said["gone"] = accounts.get_user(made.id)
"""
    )
    assert said["made"] == ["desk.four", "desk4@example.org", "RESET", True]
    assert said["flags"] == [False, False, False, False]
    assert said["changed"] == ["Desk Four", "1234", "INACTIVE"] and said["got"] == "Desk Four"
    assert said["found"] and said["by_status"] and said["members"] and said["again"] == 409 and said["gone"] is None


def test_the_account_is_read_and_changed_and_its_groups_are_found(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud import AccountManagementAPI

accounts = AccountManagementAPI(config)
account = accounts.get_account()
said["account"] = [account.id, account.status, account.tier, str(account.created_at)]
said["policies"] = len(account.policies)
said["limits"] = account.limits
changed = accounts.update_account(city="Oulu", display_name="the SDK's lab", aliases=["pdmlab-lab"])
said["changed"] = [changed.city, changed.display_name, changed.aliases]
group = next(each for each in accounts.list_groups() if each.name == "Administrators")
got = accounts.get_group(group.id)
said["group"] = [got.name, got.account_id, got.user_count, got.api_key_count >= 1]
said["count"] = len(accounts.list_groups())
said["missing"] = accounts.get_group("0" * 32)
accounts.update_account(display_name="pdmlab")
"""
    )
    assert said["account"][:3] == [lab.service.account_id, "ACTIVE", "1"]
    assert said["policies"] > 10 and said["limits"]["api_keys"] == "1000"
    assert said["changed"] == ["Oulu", "the SDK's lab", ["pdmlab-lab"]]
    assert said["group"] == ["Administrators", lab.service.account_id, 1, True]
    assert said["count"] == 3 and said["missing"] is None


def test_the_foundation_layer_has_keys_users_and_invitations(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud.foundation import ApiKey, User, UserInvitation

sdk = foundation().foundation
key = sdk.api_key(name="foundation").create()
said["key"] = [key.key[:4], key.status, str(key.created_at)]
said["read"] = sdk.api_key(id=key.id).read().name
key.name = "foundation 2"
said["updated"] = key.update().name
said["listed"] = [each.id for each in sdk.api_key().list(filter={"name": {"eq": "foundation 2"}})] == [key.id]
said["me"] = sdk.api_key().me().id != key.id
key.delete()
user = sdk.user(email="found@example.org", full_name="F").create(action="invite")
said["user"] = [user.status, user.email]
user.full_name = "G"
said["renamed"] = user.update().full_name
said["users"] = [each.id for each in sdk.user().list(filter={"email": {"eq": "found@example.org"}})] == [user.id]
said["statuses"] = len(list(sdk.user().list(filter={"status": {"in": ["INVITED", "ACTIVE"]}}))) >= 2
user.delete()
invitation = sdk.user_invitation(email="invited@example.org").create(valid_for_days=7)
said["invitation"] = [invitation.email, str(invitation.expiration), len(invitation.user_id)]
said["invitations"] = [each.id for each in sdk.user_invitation().list()] == [invitation.id]
said["again"] = sdk.user_invitation(id=invitation.id).read().email
invitation.delete()
said["none"] = list(sdk.user_invitation().list())
"""
    )
    assert said["key"][:2] == ["ak_1", "ACTIVE"] and said["read"] == "foundation"
    assert said["updated"] == "foundation 2" and said["listed"] and said["me"]
    assert said["user"] == ["INVITED", "found@example.org"] and said["renamed"] == "G"
    assert said["users"] and said["statuses"]
    assert said["invitation"][0] == "invited@example.org" and said["invitation"][2] == 32 and said["invitations"]
    assert said["again"] == "invited@example.org" and said["none"] == []


def test_the_foundation_layer_sees_to_other_accounts(lab: SdkLab) -> None:
    said = lab.run(
        """
sdk = foundation().foundation
made = sdk.account(end_market="IT", display_name="tenant", admin_email="t@example.org", admin_name="tenant").create()
said["made"] = [made.id, made.admin_key, made.admin_email, made.parent_id, made.status]
said["admin"] = made.admin_id
account = sdk.account(id=made.id).read(include="limits, policies")
said["read"] = [account.display_name, len(account.policies) > 10, account.limits["users"]]
account.city = "Oulu"
said["updated"] = account.update().city
said["listed"] = made.id in [each.id for each in sdk.account().list(filter={"status": {"eq": "ACTIVE"}})]
said["market"] = [each.id for each in sdk.account().list(filter={"end_market": {"eq": "IT"}})] == [made.id]
said["keys"] = [each.name for each in account.api_keys()]
said["users"] = [each.email for each in account.users()]
key = sdk.subtenant_api_key(account_id=made.id, name="theirs").create()
said["key"] = [key.key[:4], key.account_id == made.id]
key.name = "theirs 2"
said["renamed"] = key.update().name
said["again"] = sdk.subtenant_api_key(account_id=made.id, id=key.id).read().name
key.delete()
user = sdk.subtenant_user(account_id=made.id, email="u@example.org").create()
said["user"] = user.status
user.validate_email()
said["verified"] = sdk.subtenant_user(account_id=made.id, id=user.id).read().email_verified
user.full_name = "U"
said["named"] = user.update().full_name
user.delete()
invitation = sdk.subtenant_user_invitation(account_id=made.id, email="i@example.org").create()
said["invited"] = [each.id for each in account.user_invitations()] == [invitation.id]
said["invitation"] = sdk.subtenant_user_invitation(account_id=made.id, id=invitation.id).read().email
invitation.delete()
said["own"] = [each.id for each in sdk.user().list()]
"""
    )
    id, key, email, parent, status = said["made"]
    assert (email, parent, status) == ("t@example.org", lab.service.account_id, "ACTIVE") and key.startswith("ak_1")
    assert said["read"] == ["tenant", True, "1000"] and said["updated"] == "Oulu" and said["listed"] and said["market"]
    assert said["keys"] == ["administrator"] and said["users"] == ["t@example.org"]
    assert said["key"] == ["ak_1", True] and said["renamed"] == said["again"] == "theirs 2"
    assert (said["user"], said["verified"], said["named"]) == ("RESET", True, "U")
    assert said["invited"] and said["invitation"] == "i@example.org" and said["admin"] not in said["own"]
    theirs = lab.run("said['id'] = foundation().foundation.account().me().id", key=key)
    assert theirs["id"] == id


def test_a_refusal_is_the_sdks_own_error(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud import AccountManagementAPI
from mbed_cloud.exceptions import CloudApiException

try:
    AccountManagementAPI(config).add_api_key(name="more")
except CloudApiException as error:
    said["status"], said["body"] = error.status, str(error)
try:
    foundation().foundation.api_key(name="more").create()
except Exception as error:
    said["foundation"] = str(error)
""",
        key=lab.new_key(group="Developers"),
    )
    assert said["status"] == 403 and "a key of the group Administrators" in said["body"]
    assert "a key of the group Administrators" in said["foundation"]
