"""Search learning rates and learning-rate schedules of image classifiers.

``search`` and ``open_study`` are the Python API (``lrsearch.api``), ``log`` and ``uniform`` make ranges for it. What is
asked for is loaded then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lrsearch.version import __version__

if TYPE_CHECKING:
    from lrsearch import schedules
    from lrsearch.api.search import search
    from lrsearch.api.space import log, uniform
    from lrsearch.api.study import open_study
    from lrsearch.training.loop.run import Run

__all__ = ["Run", "__version__", "log", "open_study", "schedules", "search", "uniform"]

_HOMES = {
    "Run": "lrsearch.training.loop.run",
    "log": "lrsearch.api.space",
    "open_study": "lrsearch.api.study",
    "search": "lrsearch.api.search",
    "uniform": "lrsearch.api.space",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    """Return a function of the API, or the module of the schedules."""
    if name == "schedules":
        return import_module("lrsearch.schedules")
    if name not in _HOMES:
        raise AttributeError(f"module 'lrsearch' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
