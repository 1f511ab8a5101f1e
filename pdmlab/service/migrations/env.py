"""What alembic runs: migrations on the connection that the store hands over."""

from alembic import context

from pdmlab.service import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
