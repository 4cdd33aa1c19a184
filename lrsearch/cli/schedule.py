"""`lrsearch show-schedule`."""

from lrsearch.errors import EXIT_OK


def show_schedule(setting: str) -> int:
    """Draw a schedule in the terminal."""
    return EXIT_OK
