"""What the local Airflow changes in Airflow: which transactions over SQLite may write.

Airflow imports it from the folder ``config`` of its home (its documentation calls it *local
settings*), in all its processes.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

__all__: list[str] = []  # no setting of Airflow has another value


@event.listens_for(Engine, "savepoint")
def begin_as_a_writer(connection: Connection, _name: str | None = None) -> None:
    """Take the lock of writers before a savepoint that begins a transaction; wait for it.

    To SQLite, such a savepoint begins a reader. If another process writes before it does, it is
    refused with *database is locked* at once, whatever the timeout. A backfill asked for while the
    scheduler is at work would be answered with 503, and its runs deleted under the scheduler,
    which ends of it.
    """
    if connection.dialect.driver != "pysqlite":
        return
    database = connection.connection.dbapi_connection
    if database is not None and not database.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
