"""The data sets that a study can name: a record for each. What a study's images are is measured, see ``Facts``."""

from dataclasses import dataclass
from typing import Final

from lrsearch.records import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set that can be had by its name, as it was published."""

    name: str
    reader: str
    """``module:function`` in the torch room; takes the name, a folder, whether to download and whether to show it, and
    returns the official sets (``lrsearch.training.download.OfficialSets``)."""
    n_pool: int
    """Images that a search may draw from [examples]; the test set lies apart."""
    n_test: int
    """[examples]"""
    shape: tuple[int, int, int]
    """Channels, height and width [pixels]."""
    classes: tuple[str, ...]
    """Their names, by label."""
    torchvision: str | None = None
    """Its class in torchvision.datasets, for an exported program; None: it comes with scikit-learn."""


_DIGITS: Final = tuple("0123456789")

DATASETS: Final = Records(
    DataSet(
        name="digits",
        reader="lrsearch.training.data:digits",
        n_pool=1000,
        n_test=797,
        shape=(1, 28, 28),
        classes=_DIGITS,
    ),
    DataSet(
        name="mnist",
        reader="lrsearch.training.download:read",
        n_pool=60_000,
        n_test=10_000,
        shape=(1, 28, 28),
        classes=_DIGITS,
        torchvision="MNIST",
    ),
    DataSet(
        name="fashion-mnist",
        reader="lrsearch.training.download:read",
        n_pool=60_000,
        n_test=10_000,
        shape=(1, 28, 28),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        torchvision="FashionMNIST",
    ),
    DataSet(
        name="cifar10",
        reader="lrsearch.training.download:read",
        n_pool=50_000,
        n_test=10_000,
        shape=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        torchvision="CIFAR10",
    ),
)
"""In the order in which they are listed."""
