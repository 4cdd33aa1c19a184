"""The problems of which pools are recorded: the tables of each one's study."""

from typing import Any

PROBLEMS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": {"name": "digits"}, "model": {"name": "mlp"}, "epochs": 10},
    "mnist_cnn": {"dataset": {"name": "mnist", "limit": 2000}, "model": {"name": "cnn"}, "epochs": 10},
}
