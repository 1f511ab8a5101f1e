"""People, and the groups that they and their keys are in."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, UniqueConstraint, false

from pdmlab.service.schema.base import Id, Time, account, created, id_, metadata

users = Table(
    "users",
    metadata,
    id_(),
    account(),
    Column("email", String(254), nullable=False),
    Column("username", String(30)),
    Column("full_name", String(100)),
    Column("phone_number", String(100)),
    Column("address", String(100)),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    Column("email_verified", Boolean, nullable=False, server_default=false()),
    Column("is_gtc_accepted", Boolean, nullable=False, server_default=false()),
    Column("is_marketing_accepted", Boolean, nullable=False, server_default=false()),
    *created(),
    UniqueConstraint("account_id", "email"),
    UniqueConstraint("account_id", "username"),
    comment="whom keys belong to; nobody logs in, so there are no passwords",
)

user_invitations = Table(
    "user_invitations",
    metadata,
    id_(),
    account(),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("email", String(254), nullable=False),
    Column("expiration", Time, nullable=False),
    *created(),
    Index(None, "account_id"),
    Index(None, "user_id"),
)

policy_groups = Table(
    "policy_groups",
    metadata,
    id_(),
    account(),
    Column("name", String(100), nullable=False),
    Column("rights", String(16)),
    *created(),
    UniqueConstraint("account_id", "name"),
    UniqueConstraint("account_id", "rights"),
    comment="rights: administrator, developer or read-only for the three that every account has; null in others",
)

key_groups = Table(
    "key_groups",
    metadata,
    Column("member_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", Id, ForeignKey("policy_groups.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Index(None, "group_id"),
    Index(None, "account_id"),
    comment="which API keys are in which groups",
)

user_groups = Table(
    "user_groups",
    metadata,
    Column("member_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", Id, ForeignKey("policy_groups.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Index(None, "group_id"),
    Index(None, "account_id"),
    comment="which users are in which groups",
)
