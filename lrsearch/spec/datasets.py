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
_CIFAR100: Final = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
    "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
    "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
    "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
    "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
    "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
    "wardrobe whale willow_tree wolf woman worm"
)

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
        name="kmnist",
        reader="lrsearch.training.download:read",
        n_pool=60_000,
        n_test=10_000,
        shape=(1, 28, 28),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        torchvision="KMNIST",
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
    DataSet(
        name="cifar100",
        reader="lrsearch.training.download:read",
        n_pool=50_000,
        n_test=10_000,
        shape=(3, 32, 32),
        classes=tuple(_CIFAR100.split()),
        torchvision="CIFAR100",
    ),
    DataSet(
        name="svhn",
        reader="lrsearch.training.download:read",
        n_pool=73_257,
        n_test=26_032,
        shape=(3, 32, 32),
        classes=_DIGITS,
        torchvision="SVHN",
    ),
)
"""In the order in which they are listed."""
