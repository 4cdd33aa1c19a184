"""The database's clock: the only one that every worker of a study shares."""

from typing import Any

import sqlalchemy as sa


def now() -> sa.SQLColumnExpression[Any]:
    """Return the database's time in UTC, to the millisecond."""
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now", type_=sa.DateTime)
