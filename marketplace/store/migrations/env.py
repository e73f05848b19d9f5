"""Alembic's environment: runs inside the connection and transaction that `schema.migrate` opened."""

from alembic import context

from marketplace.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
context.run_migrations()
