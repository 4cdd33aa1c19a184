"""The command `lrsearch`: nothing but the guard around it, so that no import is outside of it."""

import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line; an interrupt at any moment, imports included, exits 130 without a traceback."""
    try:
        from lrsearch import cores, loading
        from lrsearch.cli import ascii_only, interrupts

        interrupts.install()
        cores.wait_passively()
        loading.alone()
        with loading.uncollected():
            from lrsearch.cli.app import run

        ascii_only.register()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # A terminal or a file of an old encoding gets another sign for what it cannot show.
                stream.reconfigure(errors=ascii_only.NAME)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # What there is to say about the interrupt has been said by now.
        sys.exit(130)
    if code == 130 or "ray" in sys.modules:
        # Threads of Ray's, which wait for a cluster that does not answer, would crash where Python ends.
        interrupts.leave(code)
    # All is written: from here on there is nothing to interrupt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
