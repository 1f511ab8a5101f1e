"""The service's tables. Every row carries its account; what is per API key carries that; ids are 32 hex digits.

Times of day are text, RFC 3339 in UTC with microseconds, as REST shows them: they sort as they read. Deadlines
are Unix seconds. A change here needs a migration beside it (migrations/versions); a test holds both together.
"""

from __future__ import annotations

from pdmlab.service.schema.base import metadata
from pdmlab.service.schema.connect import (
    channel_messages,
    channels,
    observations,
    presubscriptions,
    requests,
    subscriptions,
)
from pdmlab.service.schema.devices import (
    bootstrap_endpoints,
    device_events,
    device_group_members,
    device_groups,
    device_queries,
    devices,
    registrations,
    resources,
)
from pdmlab.service.schema.enrollment import (
    device_enrollments,
    enrollment_bulk_parts,
    enrollment_bulks,
    enrollment_denials,
)
from pdmlab.service.schema.firmware import (
    campaign_devices,
    campaigns,
    device_words,
    firmware_images,
    firmware_manifests,
    image_pieces,
    upload_chunks,
    upload_jobs,
)
from pdmlab.service.schema.identity import accounts, api_keys, facts
from pdmlab.service.schema.metrics import metric_counts
from pdmlab.service.schema.nodes import nodes
from pdmlab.service.schema.people import key_groups, policy_groups, user_groups, user_invitations, users
from pdmlab.service.schema.security import (
    certificate_enrollments,
    certificate_issuer_configurations,
    developer_keys,
    device_certificates,
    dtls_associations,
    own_certificates,
    shared_keys,
    trusted_certificates,
)

HEAD = "0010"
"""The migration that leads to these tables."""

__all__ = [
    "HEAD",
    "accounts",
    "api_keys",
    "bootstrap_endpoints",
    "campaign_devices",
    "campaigns",
    "certificate_enrollments",
    "certificate_issuer_configurations",
    "channel_messages",
    "channels",
    "developer_keys",
    "device_certificates",
    "device_enrollments",
    "device_events",
    "device_group_members",
    "device_groups",
    "device_queries",
    "device_words",
    "devices",
    "dtls_associations",
    "enrollment_bulk_parts",
    "enrollment_bulks",
    "enrollment_denials",
    "facts",
    "firmware_images",
    "firmware_manifests",
    "image_pieces",
    "key_groups",
    "metadata",
    "metric_counts",
    "nodes",
    "observations",
    "own_certificates",
    "policy_groups",
    "presubscriptions",
    "registrations",
    "requests",
    "resources",
    "shared_keys",
    "subscriptions",
    "trusted_certificates",
    "upload_chunks",
    "upload_jobs",
    "user_groups",
    "user_invitations",
    "users",
]
