"""`lrsearch export`."""

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, TrialOption
from lrsearch.errors import EXIT_OK


def export(study: StudyArgument = None, trial: TrialOption = "best", storage: StorageOption = DEFAULT_STORAGE) -> int:
    """Print a program that trains with the setting of a trial."""
    return EXIT_OK
