"""The methods by name: each module of them is imported where one of its names is asked for, as some need more."""

import importlib
from collections.abc import Sequence

from lrsearch.errors import UsageError, nearest
from replaying.methods import Named

SAMPLERS = ("tpe", "random", "qmc", "gp", "cmaes")
PRUNERS = ("gradual", "asha", "hyperband", "median", "none")
"""Of lrsearch itself, as a study file names them."""

MODULES: dict[str, tuple[str, ...]] = {
    "replaying.product": (
        "lr",
        "product",
        "product-asha",
        *(f"{sampler}+{pruner}" for sampler in SAMPLERS for pruner in PRUNERS),
    ),
    "replaying.rivals_optuna": (
        "optuna",
        "optuna-hyperband",
        "optuna-halving",
        "optuna-random",
        "optuna-qmc",
        "optuna-qmc-twice",
        "optuna-gp",
        "optuna-cmaes",
    ),
    "replaying.rivals_ray": ("ray-bohb",),
    "replaying.rivals_smac": ("smac",),
    "replaying.rivals_syne": ("syne-asha", "syne-mobster"),
}
"""Modules, and the names of the methods in the table ``METHODS`` of each."""


def named(name: str) -> Named:
    """Return a method.

    Raises:
        UsageError: no method has that name.
    """
    for module, names in MODULES.items():
        if name in names:
            found: Named = importlib.import_module(module).METHODS[name]
            return found
    known = [one for names in MODULES.values() for one in names]
    raise UsageError(f"a method must be one of {', '.join(known)}, got '{name}'{nearest(name, known)}")


def check(names: Sequence[str]) -> None:
    """Make sure that methods are known, and that what they need is installed.

    Raises:
        UsageError: one is not.
    """
    for name in names:
        try:
            named(name)
        except ImportError as error:
            needs = f"{error.name}, which is not installed" if error.name else "packages that are not installed"
            raise UsageError(f"the method '{name}' needs {needs}: pip install 'lrsearch[rivals]'") from None
