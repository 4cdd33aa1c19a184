"""The log as one JSON object a line on stderr, for whatever collects logs.

Everything that is written to stderr becomes such a line, also what a library prints there, so that a collector never
meets text. Tracebacks are shown where they are asked for, and never those of other libraries: theirs may hold a URL.
"""

import io
import logging
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from lrsearch.report.plain import plain

SCHEMA = "lrsearch/log/1"
OURS = "lrsearch"
PROGRESS = "lrsearch.progress"
"""Named as the logger of events and remarks."""
PREFIX = "lrsearch: "
"""Of a sentence for people; a line of JSON says who speaks anyway."""


class JsonLine(logging.Formatter):
    """A record as one line; a message that is a mapping has its keys beside ``schema``, ``time`` and ``level``."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        from pythonjsonlogger.json import JsonFormatter

        self._tracebacks = tracebacks
        self._json = JsonFormatter(["schema", "time", "level", "logger", "message"])

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = dict(record.msg) if isinstance(record.msg, Mapping) else {}
        message = str(fields.pop("message", "")) if fields else _words(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.name.partition(".")[0] != OURS:
            message = f"{message}: {type(error).__name__}"
        elif error is not None and self._tracebacks:
            fields["traceback"] = self.formatException((type(error), error, error.__traceback__))
        elif error is not None and not fields:
            message = f"{message}: {type(error).__name__}: {error}"
        fields["message"] = message
        bare = logging.makeLogRecord({"msg": plain(fields)})
        bare.schema = SCHEMA
        bare.time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        bare.level, bare.logger = record.levelname.lower(), record.name
        return self._json.format(bare)


class Handler(logging.Handler):
    """Writes to the stderr that there was when it was made."""

    def __init__(self, stream: TextIO, *, tracebacks: bool) -> None:
        super().__init__()
        self.stream = stream
        self.setFormatter(JsonLine(tracebacks=tracebacks))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; who warns does not mind that nobody reads it any more."""
        with suppress(OSError, ValueError):
            self.write(record)

    def write(self, record: logging.LogRecord) -> None:
        """Write a record.

        Raises:
            OSError: it cannot be written: ``BrokenPipeError`` where the reader has gone.
        """
        line = f"{self.format(record)}\n"
        self.acquire()
        try:
            # At once, so that threads do not write into each other's lines.
            self.stream.write(line)
            self.stream.flush()
        finally:
            self.release()


class Stderr(io.TextIOBase):
    """In place of stderr while the log is JSON: what is printed there becomes a line of it."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler
        self._begun: dict[int, str] = {}
        """Of each thread: a line is printed in more than one piece, and none may be within another's."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream beneath."""
        return self._handler.stream.encoding

    def writable(self) -> bool:
        """Yes."""
        return True

    def isatty(self) -> bool:
        """No: neither a live view nor colours."""
        return False

    def fileno(self) -> int:
        """Return that of the stream beneath."""
        return self._handler.stream.fileno()

    def write(self, text: str) -> int:
        """Keep the text until its line is complete."""
        mine = threading.get_ident()
        *lines, begun = f"{self._begun.pop(mine, '')}{text}".split("\n")
        if begun:
            self._begun[mine] = begun
        for line in lines:
            self._say(line)
        return len(text)

    def finish(self) -> None:
        """Write the last lines, also those that have no end."""
        while self._begun:
            self._say(self._begun.popitem()[1])

    def _say(self, line: str) -> None:
        said = line.rpartition("\r")[2].strip()
        if said:
            # Also where somebody kept this stream beyond its time.
            self._handler.write(_record(PROGRESS, logging.INFO, {"message": said.removeprefix(PREFIX)}))


def install(*, tracebacks: bool = False) -> None:
    """Write the log of this process as JSON: warnings and worse, of libraries too, and all that is printed to stderr.

    To be undone with ``uninstall``, unless the process ends with it.
    """
    handler = Handler(sys.stderr, tracebacks=tracebacks)
    ours = logging.getLogger(OURS)
    ours.addHandler(handler)
    ours.propagate = False
    ours.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(capture=True)
    sys.stderr = Stderr(handler)


def uninstall() -> None:
    """Undo ``install``; nothing where it has not been called."""
    handler = installed()
    if handler is None:
        return
    if isinstance(sys.stderr, Stderr):
        with suppress(OSError, ValueError):
            sys.stderr.finish()
        sys.stderr = handler.stream
    logging.captureWarnings(capture=False)
    for name in (OURS, None):
        logging.getLogger(name).removeHandler(handler)


def installed() -> Handler | None:
    """Return what writes the log as JSON, or None where it is text."""
    return next((one for one in logging.getLogger(OURS).handlers if isinstance(one, Handler)), None)


def take_up(level: int, *, as_json: bool) -> None:
    """Write the log of a process that another one has started as that one does."""
    if as_json:
        install()
        logging.getLogger(OURS).setLevel(level)
    else:
        logging.basicConfig(level=level, format=f"{PREFIX}%(message)s", force=True)


def say(level: int, fields: Mapping[str, Any], error: BaseException | None = None, logger: str = PROGRESS) -> None:
    """Write a line.

    Args:
        level: of ``logging``.
        fields: with ``message``; what is not finite becomes null.
        error: shown with its traceback where tracebacks are asked for.
        logger: under whose name.

    Raises:
        OSError: it cannot be written.
    """
    handler = installed()
    assert handler is not None
    handler.write(_record(logger, level, fields, error))


def _words(record: logging.LogRecord) -> str:
    """Return what a record says; where its values do not fit its words, the words: who logs is not to fail by it."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _record(
    logger: str, level: int, fields: Mapping[str, Any], error: BaseException | None = None
) -> logging.LogRecord:
    shown = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(logger, level, "", 0, fields, None, shown)
