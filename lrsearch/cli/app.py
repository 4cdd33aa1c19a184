"""The command line: parse, call, print. No torch and no optuna is imported before a command needs it."""

import errno
import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from lrsearch.cli import (
    compare,
    confirm,
    dashboard,
    data,
    doctor,
    export,
    find,
    known,
    log,
    model,
    operate,
    predict,
    records,
    report,
    review,
    schedule,
    search,
    start,
    train,
    transfer,
    usage,
    worker,
)
from lrsearch.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, LrsearchError, UsageError
from lrsearch.version import __version__

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
app.command("worker")(worker.worker)
app.command("init")(start.init)
app.command("data")(data.data)
app.command("model")(model.model)
app.command("find")(find.find)
app.command("trials")(review.trials)
app.command("best")(review.best)
app.command("show")(review.show)
app.command("status")(review.status)
app.command("report")(report.report)
app.command("dashboard")(dashboard.dashboard)
app.command("predict")(predict.predict)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("confirm")(confirm.confirm)
app.command("transfer")(transfer.transfer)
app.command("import")(known.import_)
app.command("compare")(compare.compare)
app.command("log")(records.log)
app.command("show-schedule")(schedule.show_schedule)
app.command("extend")(operate.extend)
app.command("stop")(operate.stop)
app.command("enqueue")(operate.enqueue)
app.command("doctor")(doctor.doctor)
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
    log_format: Annotated[
        log.Format,
        typer.Option(
            log.OPTION,
            envvar=log.VARIABLE,
            help="text or json: of what goes to stderr, one object a line (anywhere on the line).",
        ),
    ] = "text",
) -> None:
    del version, debug, log_format


NO_MEMORY = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
NO_ROOM = "there is too little memory for this process: end others, or raise its limit (ulimit -v unlimited)"


def run(argv: list[str]) -> int:
    """Run one command; return the exit code. Every error ends here, as one sentence on stderr."""
    debug = "--debug" in argv or os.environ.get("LRSEARCH_DEBUG", "") not in ("", "0")
    words, as_json = log.to_the_front([word for word in argv if word != "--debug"])
    with log.installed(tracebacks=debug, as_json=as_json):
        try:
            code = _call(list(words))  # typer takes words out of the list that it is given
            # Here, and not when Python ends: what cannot be written is an error like any other.
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # a person never meets a traceback unasked
            if debug and not as_json:
                traceback.print_exc()
            return _end(error, words)
        return code


def _call(words: list[str]) -> int:
    """Parse and run; not through typer's ``main``, which has its own ways with broken pipes and interrupts."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("lrsearch", words) as context:
            code = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return code if isinstance(code, int) else EXIT_OK


def _end(error: BaseException, words: list[str]) -> int:
    """Say in one sentence what went wrong; return the exit code."""
    match error:
        case LrsearchError():
            return _say(str(error), error.exit_code, error)
        case TyperException():
            message = error.format_message()
            if message.startswith("Usage:"):
                # No command given: typer's error is its help.
                if log.as_json():
                    return _say("a command must be given, got none (see `lrsearch --help`)", EXIT_USAGE, error)
                print(message, file=sys.stderr)
                return EXIT_USAGE
            return _say(usage.sentence(error, typer.main.get_command(app), words), int(error.exit_code), error)
        case BrokenPipeError() | SystemExit():
            # The reader has gone (`lrsearch trials | head`), of which rich makes a SystemExit: nothing to say, and
            # nothing to flush into.
            _drop_output()
            return EXIT_OK
        case OSError(errno=errno.ENOSPC | errno.EIO | errno.EDQUOT | errno.EFBIG, filename=None):
            _drop_output()
            return _say(f"the output cannot be written: {error.strerror}", EXIT_FAILURE, error)
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return _say(
                "this needs more open files than the system allows it: raise the limit (ulimit -n 1024)",
                EXIT_FAILURE,
                error,
            )
        case FileNotFoundError() if not _here():
            return _say(
                "the folder in which this was started is there no more: change into another one", EXIT_FAILURE, error
            )
        case MemoryError():
            return _say(NO_ROOM, EXIT_FAILURE, error)
        case ImportError() if any(words in str(error) for words in NO_MEMORY):
            return _say(f"a library could not be loaded ({error}): {NO_ROOM}", EXIT_FAILURE, error)
        case KeyboardInterrupt() | EOFError() | typer.Abort():
            return EXIT_INTERRUPTED
        case _:
            first = (str(error).strip().splitlines() or ["no message"])[0]
            said = (
                f"a defect of lrsearch: {type(error).__name__}: {first}; "
                f"run it again with --debug and report what it shows"
            )
            return _say(said, EXIT_FAILURE, error)


def _here() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - it is this very call that fails
    except OSError:
        return False
    return True


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str, code: int, error: BaseException) -> int:
    # One line, also where a name that was typed holds a line break.
    kind = UsageError.__name__ if isinstance(error, TyperException) else type(error).__name__
    log.say("\\n".join(sentence.splitlines()), code, error, kind)
    return code
