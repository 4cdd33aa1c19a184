"""The command `lrsearch`: nothing but the guard around it, so that no import is outside of it."""

import sys


def main() -> None:
    """Run the command line; an interrupt at any moment, imports included, exits 130 without a traceback."""
    try:
        from lrsearch.cli.app import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        # Whoever can say more about what was interrupted has said it by now.
        sys.exit(130)


if __name__ == "__main__":
    main()
