"""Search learning rates and learning-rate schedules of image classifiers.

``search`` and ``open_study`` are the Python API (``lrsearch.api``), which is loaded when one of them is asked for.
"""

from typing import TYPE_CHECKING, Any

from lrsearch.version import __version__

if TYPE_CHECKING:
    from lrsearch.api import open_study, search

__all__ = ["__version__", "open_study", "search"]


def __getattr__(name: str) -> Any:
    """Return a function of the API."""
    if name not in ("open_study", "search"):
        raise AttributeError(f"module 'lrsearch' has no attribute '{name}'")
    from lrsearch import api

    return getattr(api, name)
