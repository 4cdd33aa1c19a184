"""The problems of which pools are recorded: the tables of each one's study."""

import tomllib
from importlib.resources import files
from typing import Any

PROBLEMS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": {"name": "digits"}, "model": {"name": "mlp"}, "epochs": 10},
    "digits_study": tomllib.loads((files("lrsearch.studies") / "digits.toml").read_text()),
    "mnist_cnn": {"dataset": {"name": "mnist", "limit": 2000}, "model": {"name": "cnn"}, "epochs": 10},
}
"""``digits_study`` is the study file that lrsearch brings: smaller batches, and weight decay is searched."""
