"""`lrsearch predict`."""

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, TrialOption
from lrsearch.errors import EXIT_OK


def predict(study: StudyArgument = None, trial: TrialOption = "best", storage: StorageOption = DEFAULT_STORAGE) -> int:
    """Show layer by layer what a trial makes of an image."""
    return EXIT_OK
