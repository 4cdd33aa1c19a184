"""What goes to stderr: warnings and errors, and the events of a search; as sentences, or as JSON, one object a line."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from lrsearch.events import Event
    from lrsearch.spec.study import StudySpec

Format = Literal["text", "json"]

OPTION = "--log-format"
VARIABLE = "LRSEARCH_LOG_FORMAT"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at the moment: the live view takes its place while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        pass


class _Sentence(logging.Formatter):
    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("lrsearch: %(message)s")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks and record.exc_info:
            error = record.exc_info[1]
            record = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {error}", None
        return super().format(record)


@contextmanager
def installed(*, tracebacks: bool, as_json: bool) -> Iterator[None]:
    """Have the package's own log written to stderr, warnings and worse; JSON ends with the block, text stays."""
    log = logging.getLogger("lrsearch")
    for old in [h for h in log.handlers if isinstance(h, _Stderr)]:
        log.removeHandler(old)
    if as_json:
        from lrsearch.workers import json_log

        json_log.install(tracebacks=tracebacks)
        try:
            yield
        finally:
            json_log.uninstall()
        return
    handler = _Stderr()
    handler.setFormatter(_Sentence(tracebacks=tracebacks))
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    yield


def as_json() -> bool:
    """Whether the log is JSON."""
    # Nobody has asked for it if it was not imported.
    json_log = sys.modules.get("lrsearch.workers.json_log")
    return json_log is not None and json_log.installed() is not None


def to_the_front(words: Sequence[str]) -> tuple[list[str], bool]:
    """Return a command line with ``--log-format`` before the command, where it is parsed; and whether JSON is meant.

    >>> to_the_front(["run", "--log-format", "json", "digits"])
    (['--log-format', 'json', 'run', 'digits'], True)
    """
    front, rest, ahead = list[str](), list[str](), iter(words)
    for word in ahead:
        if word == "--":
            rest += [word, *ahead]
        elif word.startswith(f"{OPTION}="):
            front.append(word)
        elif word == OPTION:
            value = next(ahead, None)
            if value is None:
                # What lacks is said of it, and not of what would come after it there.
                return [word], False
            front += [word, value]
        else:
            rest.append(word)
    asked = front[-1].removeprefix(f"{OPTION}=") if front else os.environ.get(VARIABLE, "")
    # Without a command there is nothing but the help to be shown.
    return [*front, *rest] if rest else [], asked == "json"


def say(sentence: str, exit_code: int, error: BaseException, kind: str) -> None:
    """Say what went wrong, before the process ends with that code; ``kind`` is the name of the error's family."""
    if not as_json():
        print("lrsearch:", sentence, file=sys.stderr)
        return
    from lrsearch.workers import json_log

    said = {"message": sentence, "error": kind, "exit_code": exit_code}
    json_log.say(logging.ERROR, said, error, json_log.OURS)


def remark(sentence: str, mark: str) -> None:
    """Write a line of progress that is no event; ``mark`` stands before it for people."""
    print(sentence if as_json() else f"{mark} {sentence}", file=sys.stderr, flush=True)


class Events:
    """Tells the events of a search, each in one line.

    Args:
        begun: when the command began, by ``time.monotonic``.
        named: whether a line for people names the study: there may be several.
        worker: who works, ``host:pid``; None where several do, and a trial's events have its own.
    """

    def __init__(self, begun: float, *, named: bool = False, worker: str | None = None) -> None:
        self._begun, self._named, self._worker = begun, named, worker
        self._workers: dict[int, str] = {}

    def tell(self, event: "Event", spec: "StudySpec") -> None:
        """Write an event."""
        elapsed = time.monotonic() - self._begun
        if as_json():
            self._tell_json(event, elapsed, spec)
            return
        from lrsearch.report.lines import line

        seconds, _, words = line(event, elapsed, spec).partition(" ")
        name = f" {spec.name}" if self._named else ""
        print(f"{seconds}{name} {words}", file=sys.stderr, flush=True)

    def _tell_json(self, event: "Event", elapsed: float, spec: "StudySpec") -> None:
        from lrsearch.events import TrialStarted
        from lrsearch.report import event_fields
        from lrsearch.workers import json_log

        if isinstance(event, TrialStarted):
            self._workers[event.trial.number] = event.trial.worker
        number = event_fields.trial_of(event)
        worker = self._worker if number is None else self._workers.get(number, self._worker)
        json_log.say(event_fields.level(event), event_fields.fields(event, elapsed, spec, worker))
