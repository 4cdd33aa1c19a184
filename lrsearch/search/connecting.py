"""Connections to a PostgreSQL server as lrsearch wants them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from lrsearch.search.places import PostgresServer

SETTINGS: dict[str, Any] = {
    "connect_timeout": 10,
    # A link that is cut sends no word: give up on a server that acknowledges nothing for so long.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "lrsearch",
    # A worker that is paused (SIGSTOP, a laptop's lid) within a transaction must not hold the budget's lock.
    "options": "-c idle_in_transaction_session_timeout=20s -c timezone=UTC",
}


def connected(place: PostgresServer) -> sa.Connection:
    """Return a connection of one's own; closing it ends it."""
    return sa.create_engine(place.url, poolclass=NullPool, connect_args=settings(place)).connect()


def settings(place: PostgresServer) -> dict[str, Any]:
    """Return our settings of a connection, those that stand in the URL left to it."""
    query = place.url.query
    ours = {key: value for key, value in SETTINGS.items() if key not in query}
    if "options" in query:
        ours["options"] = f"{SETTINGS['options']} {query['options']}"
    if "prepare_threshold" in query:
        # psycopg's own: it takes no text.
        threshold = str(query["prepare_threshold"])
        ours["prepare_threshold"] = None if threshold.lower() == "none" else int(threshold)
    return ours
