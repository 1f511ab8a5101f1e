"""What has happened in each account, counted."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table

from pdmlab.service.schema.base import Id, metadata

Metric: TypeAlias = Literal[
    "transactions",
    "full_registrations",
    "registration_updates",
    "deleted_registrations",
    "expired_registrations",
    "bootstraps_successful",
    "bootstraps_failed",
    "bootstraps_pending",
    "handshakes_successful",
    "connect_rest_api_success",
    "connect_rest_api_error",
    "device_proxy_request_success",
    "device_proxy_request_error",
    "device_subscription_request_success",
    "device_subscription_request_error",
    "device_observations",
]
"""What is counted, by the vendor's names."""

METRICS: tuple[Metric, ...] = get_args(Metric)

metric_counts = Table(
    "metric_counts",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("begins", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in METRICS),
    Index(None, "begins"),
    comment="what happened in the five minutes that begin then (Unix s); processes add to each other's counts",
)
