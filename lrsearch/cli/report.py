"""`lrsearch report`."""

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument
from lrsearch.errors import EXIT_OK


def report(study: StudyArgument = None, storage: StorageOption = DEFAULT_STORAGE) -> int:
    """Write a report of a study that one can send."""
    return EXIT_OK
