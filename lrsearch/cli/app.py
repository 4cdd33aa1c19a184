"""The command line: parse, call, print. No torch and no optuna is imported before a command needs it."""

import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from lrsearch import __version__
from lrsearch.cli import review, search, start
from lrsearch.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, LrsearchError

app = typer.Typer(
    name="lrsearch",
    help="Search learning rates and learning-rate schedules of image classifiers.",
    epilog="Start with `lrsearch run --trials 50`; data goes to stdout, progress to stderr.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(search.run)
app.command("init")(start.init)
app.command("trials")(review.trials)
app.command("best")(review.best)
app.command("show")(review.show)
app.command("status")(review.status)
app.command("list")(review.list_studies)
app.command("delete")(review.delete)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"lrsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line; LRSEARCH_DEBUG=1).")
    ] = False,
) -> None:
    del version, debug


def run(argv: list[str]) -> int:
    """Run one command; return the exit code. Every error ends here, as one sentence on stderr."""
    debug = "--debug" in argv or os.environ.get("LRSEARCH_DEBUG", "") not in ("", "0")
    words = [word for word in argv if word != "--debug"]
    try:
        code = typer.main.get_command(app).main(words, prog_name="lrsearch", standalone_mode=False)
    except (LrsearchError, TyperException, BrokenPipeError, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _end(error)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        _say(
            f"a defect of lrsearch: {type(error).__name__}: {first}; run it again with --debug and report what it shows"
        )
        return EXIT_FAILURE
    return code if isinstance(code, int) else EXIT_OK


def _end(error: BaseException) -> int:
    match error:
        case LrsearchError():
            _say(str(error))
            return error.exit_code
        case TyperException():
            context = getattr(error, "ctx", None)
            hint = f" (see `{context.command_path} --help`)" if context is not None else ""
            message = error.format_message()
            if not message:
                # No command given: typer's error is its help.
                return int(error.exit_code)
            _say(message.rstrip(".") + hint)
            return int(error.exit_code)
        case BrokenPipeError():
            # The reader has gone (`lrsearch trials | head`): nothing to say, and nothing to flush into.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        case _:
            return EXIT_INTERRUPTED


def _say(sentence: str) -> None:
    print(f"lrsearch: {sentence}", file=sys.stderr)
