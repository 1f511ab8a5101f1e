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
from pdmlab.service.schema.devices import bootstrap_endpoints, device_events, devices, registrations, resources
from pdmlab.service.schema.firmware import (
    campaign_devices,
    campaigns,
    firmware_images,
    firmware_manifests,
    upload_chunks,
    upload_jobs,
)
from pdmlab.service.schema.identity import accounts, api_keys, facts
from pdmlab.service.schema.security import (
    certificate_enrollments,
    developer_certificates,
    device_certificates,
    dtls_associations,
    own_certificates,
    shared_keys,
)

HEAD = "0008"
"""The migration that leads to these tables."""

__all__ = [
    "HEAD",
    "accounts",
    "api_keys",
    "bootstrap_endpoints",
    "campaign_devices",
    "campaigns",
    "certificate_enrollments",
    "channel_messages",
    "channels",
    "developer_certificates",
    "device_certificates",
    "device_events",
    "devices",
    "dtls_associations",
    "facts",
    "firmware_images",
    "firmware_manifests",
    "metadata",
    "observations",
    "own_certificates",
    "presubscriptions",
    "registrations",
    "requests",
    "resources",
    "shared_keys",
    "subscriptions",
    "upload_chunks",
    "upload_jobs",
]
