"""What Alembic runs: the migrations go through the connection that perfci opened, in its transaction."""

from alembic import context

from perfci.database.schema import metadata


def run() -> None:
    """Run the migrations that Alembic chose."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# Alembic fills its context while it runs this file. Whoever else imports it gets the function alone.
if hasattr(context, "config"):
    run()
