"""The processes that share the database: each is a node, and has a name."""

from __future__ import annotations

from sqlalchemy import Column, Float, String, Table

from pdmlab.service.schema.base import Id, Time, json_, metadata

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("run", Id, nullable=False),
    Column("heartbeat", Float, nullable=False),
    json_("addresses", "{}"),
    Column("started_at", Time, nullable=False),
    comment="run: which start of the process it is; heartbeat: when it was last there (Unix s), 0 once it has stopped;"
    " addresses: where its servers listen",
)
