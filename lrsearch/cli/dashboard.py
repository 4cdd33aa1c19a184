"""`lrsearch dashboard`."""

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption
from lrsearch.errors import EXIT_OK


def dashboard(storage: StorageOption = DEFAULT_STORAGE) -> int:
    """Show the studies of a database in a browser."""
    return EXIT_OK
