"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("display_name", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="ACTIVE", nullable=False),
        sa.Column("tier", sa.String(length=8), server_default="1", nullable=False),
        sa.Column("fields", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        comment="fields: whatever else PUT /v3/accounts/me has set",
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
        comment="what the service itself has to remember: its default account, its ports",
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("key_prefix", sa.String(length=40), server_default="", nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="ACTIVE", nullable=False),
        sa.Column("groups", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("last_login_at", sa.String(length=27), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
        comment="key_hash: SHA-256 of the key in hex; the key itself is not kept",
    )
    op.create_index(op.f("ix_api_keys_account_id"), "api_keys", ["account_id"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("description", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("device_filter", sa.Text(), nullable=False),
        sa.Column("root_manifest_id", sa.String(length=32), nullable=True),
        sa.Column("root_manifest_url", sa.String(length=255), nullable=True),
        sa.Column("campaign_strategy", sa.String(length=16), server_default="one-shot", nullable=False),
        sa.Column("phase", sa.String(length=16), server_default="draft", nullable=False),
        sa.Column("state", sa.String(length=32), server_default="draft", nullable=False),
        sa.Column("when", sa.String(length=27), nullable=True),
        sa.Column("started_at", sa.String(length=27), nullable=True),
        sa.Column("finished", sa.String(length=27), nullable=True),
        sa.Column("autostop_reason", sa.Text(), nullable=True),
        sa.Column("manifest", sa.LargeBinary(), nullable=True),
        sa.Column("version", sa.String(length=16), nullable=True),
        sa.Column("component", sa.String(length=16), nullable=True),
        sa.Column("payload_uri", sa.String(length=255), nullable=True),
        sa.Column("payload_size", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_campaigns_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        comment="manifest and what it says are copied at the start: deleting the manifest stops no campaign",
    )
    op.create_index(op.f("ix_campaigns_account_id"), "campaigns", ["account_id"], unique=False)
    op.create_table(
        "developer_certificates",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), server_default="", nullable=False),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("private_key", sa.Text(), nullable=True),
        sa.Column("security_file_content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_developer_certificates_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_developer_certificates")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_developer_certificates_account_id_name")),
        comment="certificate and key (PEM) are null where transport has no security",
    )
    op.create_table(
        "device_events",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("date_time", sa.String(length=27), nullable=False),
        sa.Column("event_type", sa.String(length=100), nullable=False),
        sa.Column("event_type_category", sa.String(length=100), server_default="", nullable=False),
        sa.Column("event_type_description", sa.String(length=255), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("changes", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("data", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state_change", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_events_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_events")),
        comment="they outlive their device",
    )
    op.create_index(
        op.f("ix_device_events_account_id_device_id"), "device_events", ["account_id", "device_id"], unique=False
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=64), nullable=True),
        sa.Column("endpoint_type", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=20), server_default="unenrolled", nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("description", sa.String(length=2000), nullable=True),
        sa.Column("device_class", sa.String(length=32), nullable=True),
        sa.Column("vendor_id", sa.String(length=255), nullable=True),
        sa.Column("serial_number", sa.String(length=64), nullable=True),
        sa.Column("host_gateway", sa.String(length=32), nullable=True),
        sa.Column("mechanism", sa.String(length=16), server_default="connector", nullable=False),
        sa.Column("mechanism_url", sa.String(length=255), nullable=True),
        sa.Column("device_execution_mode", sa.Integer(), server_default="1", nullable=False),
        sa.Column("device_key", sa.String(length=512), nullable=True),
        sa.Column("ca_id", sa.String(length=500), nullable=True),
        sa.Column("issuer_fingerprint", sa.String(length=255), nullable=True),
        sa.Column("bootstrap_expiration_date", sa.String(length=10), nullable=True),
        sa.Column("connector_expiration_date", sa.String(length=10), nullable=True),
        sa.Column("bootstrapped_timestamp", sa.String(length=27), nullable=True),
        sa.Column("enrolment_list_timestamp", sa.String(length=27), nullable=True),
        sa.Column("firmware_checksum", sa.String(length=64), nullable=True),
        sa.Column("manifest", sa.String(length=255), nullable=True),
        sa.Column("manifest_timestamp", sa.String(length=27), nullable=True),
        sa.Column("deployment", sa.String(length=32), nullable=True),
        sa.Column("deployed_state", sa.String(length=32), nullable=True),
        sa.Column("lifecycle_status", sa.String(length=32), server_default="enabled", nullable=False),
        sa.Column("auto_update", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("custom_attributes", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("groups", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_devices_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
    )
    op.create_index(
        op.f("ix_devices_account_id_endpoint_name"), "devices", ["account_id", "endpoint_name"], unique=False
    )
    op.create_index(op.f("ix_devices_account_id_state"), "devices", ["account_id", "state"], unique=False)
    op.create_table(
        "firmware_images",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("checksum", sa.String(length=64), nullable=False),
        sa.Column("datafile_encryption", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("file", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_firmware_images_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firmware_images")),
        comment="checksum: SHA-256 in hex; the bytes are in data, or in a file of the state folder",
    )
    op.create_index(op.f("ix_firmware_images_account_id"), "firmware_images", ["account_id"], unique=False)
    op.create_table(
        "firmware_manifests",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("vendor_id", sa.String(length=32), nullable=True),
        sa.Column("device_class", sa.String(length=32), nullable=True),
        sa.Column("version", sa.String(length=16), nullable=True),
        sa.Column("component", sa.String(length=16), nullable=True),
        sa.Column("payload_uri", sa.String(length=255), nullable=True),
        sa.Column("payload_size", sa.Integer(), nullable=True),
        sa.Column("payload_digest", sa.String(length=64), nullable=True),
        sa.Column("timestamp", sa.String(length=27), nullable=True),
        sa.Column("key_table", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_firmware_manifests_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firmware_manifests")),
    )
    op.create_index(op.f("ix_firmware_manifests_account_id"), "firmware_manifests", ["account_id"], unique=False)
    op.create_table(
        "upload_jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("datafile_encryption", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="in_progress", nullable=False),
        sa.Column("firmware_image_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_upload_jobs_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_jobs")),
    )
    op.create_index(op.f("ix_upload_jobs_account_id"), "upload_jobs", ["account_id"], unique=False)
    op.create_table(
        "bootstrap_endpoints",
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_bootstrap_endpoints_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_bootstrap_endpoints_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_bootstrap_endpoints")),
        comment="each device's latest bootstrap: state is requested, finished or failed; step is the last one tried",
    )
    op.create_index(op.f("ix_bootstrap_endpoints_account_id"), "bootstrap_endpoints", ["account_id"], unique=False)
    op.create_table(
        "campaign_devices",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("campaign_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("deployment_state", sa.String(length=40), server_default="pending", nullable=False),
        sa.Column("step", sa.String(length=24), nullable=False),
        sa.Column("summary_status", sa.String(length=8), server_default="info", nullable=False),
        sa.Column("event_type", sa.String(length=40), server_default="", nullable=False),
        sa.Column("name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("mechanism", sa.String(length=16), server_default="connector", nullable=False),
        sa.Column("mechanism_url", sa.String(length=255), nullable=True),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("done_B", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deadline", sa.Float(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_campaign_devices_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_devices_campaign_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_devices")),
        sa.UniqueConstraint("campaign_id", "device_id", name=op.f("uq_campaign_devices_campaign_id_device_id")),
        comment="summary_status is info until the device is done, then success, fail or skipped",
    )
    op.create_index(op.f("ix_campaign_devices_device_id"), "campaign_devices", ["device_id"], unique=False)
    op.create_table(
        "channel_messages",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("api_key_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("next_try", sa.Float(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_channel_messages_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_channel_messages_api_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_channel_messages")),
        comment="events that a key has not fetched yet, as JSON; kind is their key in a NotificationMessage",
    )
    op.create_index(
        op.f("ix_channel_messages_api_key_id_number"), "channel_messages", ["api_key_id", "number"], unique=False
    )
    op.create_table(
        "channels",
        sa.Column("api_key_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("url", sa.String(length=400), nullable=True),
        sa.Column("headers", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("last_used", sa.Float(), server_default="0", nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_channels_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_channels_api_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("api_key_id", name=op.f("pk_channels")),
        comment="kind: LONG_POLLING, CALLBACK or WEB_SOCKET; last_used: Unix s",
    )
    op.create_index(op.f("ix_channels_account_id"), "channels", ["account_id"], unique=False)
    op.create_table(
        "observations",
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("token", sa.LargeBinary(length=8), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_observations_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_observations_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "path", name=op.f("pk_observations")),
        comment="what the service observes, however many keys want it: state is waiting, active or refused",
    )
    op.create_table(
        "presubscriptions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("api_key_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("endpoint_name", sa.String(length=64), nullable=True),
        sa.Column("endpoint_type", sa.String(length=64), nullable=True),
        sa.Column("resource_path", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_presubscriptions_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_presubscriptions_api_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presubscriptions")),
    )
    op.create_index(op.f("ix_presubscriptions_account_id"), "presubscriptions", ["account_id"], unique=False)
    op.create_index(op.f("ix_presubscriptions_api_key_id"), "presubscriptions", ["api_key_id"], unique=False)
    op.create_table(
        "registrations",
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=255), nullable=False),
        sa.Column("endpoint_type", sa.String(length=64), server_default="", nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("lifetime", sa.Integer(), nullable=False),
        sa.Column("binding", sa.String(length=16), nullable=False),
        sa.Column("queue_mode", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("lwm2m_version", sa.String(length=8), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("registered_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_registrations_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_registrations_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_registrations")),
        comment="generation grows with each full registration; values and observations belong to the latest",
    )
    op.create_index(op.f("ix_registrations_account_id"), "registrations", ["account_id"], unique=False)
    op.create_table(
        "requests",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("api_key_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("async_id", sa.String(length=40), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("uri", sa.String(length=512), nullable=False),
        sa.Column("payload", sa.LargeBinary(), server_default=sa.text("''"), nullable=False),
        sa.Column("content_type", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_requests_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_requests_api_key_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_requests_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_requests")),
        comment="what waits for devices, in the order of number; a request that was answered is gone",
    )
    op.create_index(op.f("ix_requests_device_id"), "requests", ["device_id"], unique=False)
    op.create_index(op.f("ix_requests_expires"), "requests", ["expires"], unique=False)
    op.create_table(
        "resources",
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("rt", sa.String(length=128), server_default="", nullable=False),
        sa.Column("observable", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("aobs", sa.Integer(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("content_format", sa.Integer(), nullable=True),
        sa.Column("value_expires", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_resources_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_resources_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "path", name=op.f("pk_resources")),
        comment="what the latest registration listed, with its latest values; value_expires: Unix s, null for never",
    )
    op.create_table(
        "subscriptions",
        sa.Column("api_key_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("async_id", sa.String(length=40), nullable=True),
        sa.Column("from_presubscription", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_subscriptions_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_subscriptions_api_key_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_subscriptions_device_id"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("api_key_id", "device_id", "path", name=op.f("uq_subscriptions_api_key_id_device_id_path")),
        comment="async_id: the async-response that the key still waits for",
    )
    op.create_index(op.f("ix_subscriptions_device_id_path"), "subscriptions", ["device_id", "path"], unique=False)
    op.create_table(
        "upload_chunks",
        sa.Column("upload_job_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_upload_chunks_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["upload_job_id"], ["upload_jobs.id"], name=op.f("fk_upload_chunks_upload_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_job_id", "number", name=op.f("pk_upload_chunks")),
        comment="number counts from 1; an empty chunk ends the job, which then becomes an image",
    )
