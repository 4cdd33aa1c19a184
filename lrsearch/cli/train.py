"""`lrsearch train`."""

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, TrialOption
from lrsearch.errors import EXIT_OK


def train(study: StudyArgument = None, trial: TrialOption = "best", storage: StorageOption = DEFAULT_STORAGE) -> int:
    """Train the setting of a trial and keep the weights."""
    return EXIT_OK
