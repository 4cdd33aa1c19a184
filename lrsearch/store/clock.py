"""The database's clock: the only one that every worker of a study shares. UTC, as Optuna keeps its own times."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f000'"


class _Now(FunctionElement[datetime]):
    type = sa.DateTime()
    inherit_cache = True


class _Later(FunctionElement[datetime]):
    type = sa.DateTime()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _now_sqlite(_element: _Now, _compiler: Any, **_: Any) -> str:
    return f"strftime({_SQLITE_FORMAT}, 'now')"


@compiles(_Now, "postgresql")
def _now_postgresql(_element: _Now, _compiler: Any, **_: Any) -> str:
    # Not now(), which is the time at which the transaction began: it may have waited for a lock since.
    return "timezone('utc', clock_timestamp())"


@compiles(_Later, "sqlite")
def _later_sqlite(element: _Later, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"strftime({_SQLITE_FORMAT}, 'now', ({seconds}) || ' seconds')"


@compiles(_Later, "postgresql")
def _later_postgresql(element: _Later, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"timezone('utc', clock_timestamp()) + make_interval(secs => CAST({seconds} AS double precision))"


def now() -> sa.SQLColumnExpression[datetime]:
    """Return the database's time in UTC, to the millisecond."""
    return _Now()


def later(seconds: sa.ColumnElement[float] | float) -> sa.SQLColumnExpression[datetime]:
    """Return the database's time in UTC, ``seconds`` from now."""
    return _Later(sa.literal(seconds, sa.Float) if isinstance(seconds, int | float) else seconds)
