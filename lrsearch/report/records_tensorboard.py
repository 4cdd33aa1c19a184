"""Trials as runs of TensorBoard, through its own writers: scalars by epoch, and its table of hyperparameters."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from lrsearch.errors import UsageError
from lrsearch.report.run_record import RunRecord
from lrsearch.trial import State

SUFFIX: Final = ".lrsearch"
"""Of the files of events that lrsearch wrote, and so may write anew."""
RESULT: Final = "objective"


def write_tensorboard(folder: Path, records: Sequence[RunRecord]) -> None:
    """Write a folder for each trial, ``trial-0007``; what was written of it before is replaced.

    Raises:
        UsageError: TensorBoard is not installed, or a folder cannot be written.
    """
    tensorboard = _tensorboard()
    try:
        _replace(folder, tensorboard, [_columns(records, tensorboard)])
        for record in records:
            _replace(folder / f"trial-{record.number:04d}", tensorboard, _events(record, tensorboard))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def _replace(folder: Path, tensorboard: "_TensorBoard", events: Iterable[Any]) -> None:
    """Write events into a file of their own, and take the files away that were written before."""
    before = list(folder.glob(f"events.out.tfevents.*{SUFFIX}"))
    writer = tensorboard.writer(str(folder), filename_suffix=SUFFIX)
    for event in events:
        writer.add_event(event)
    writer.close()
    for path in before:
        path.unlink()


class _TensorBoard:
    """What is used of the package: nothing that would want TensorFlow."""

    def __init__(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
        from tensorboard.plugins.text import metadata as text_metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util import tensor_util

        self.event, self.summary, self.writer = Event, Summary, EventFileWriter
        self.hparams, self.status = summary_v2, api_pb2.Status
        self.metadata, self.plugin_data = metadata, plugin_data_pb2
        self.text_metadata, self.tensor = text_metadata, tensor_util.make_tensor_proto


def _tensorboard() -> _TensorBoard:
    try:
        return _TensorBoard()
    except ImportError as error:
        raise UsageError(
            "--to tensorboard writes with TensorBoard's own writer, and TensorBoard is not installed: "
            "pip install 'lrsearch[tensorboard]'"
        ) from error


def _columns(records: Sequence[RunRecord], tensorboard: _TensorBoard) -> Any:
    """Return what the table of hyperparameters has for columns."""
    names = dict.fromkeys(name for record in records for name in record.parameters)
    config = tensorboard.hparams.hparams_config_pb(
        hparams=[tensorboard.hparams.HParam(name) for name in names],
        metrics=[tensorboard.hparams.Metric(RESULT)],
        time_created_secs=min((record.started for record in records), default=0.0),
    )
    return tensorboard.event(wall_time=0.0, summary=config)


def _events(record: RunRecord, tensorboard: _TensorBoard) -> Iterable[Any]:
    begin = tensorboard.hparams.hparams_pb(
        dict(record.parameters), trial_id=str(record.number), start_time_secs=record.started
    )
    yield tensorboard.event(wall_time=record.started, summary=begin)
    last = record.started
    for row in record.epochs:
        last = row.at
        yield _scalars(row.values, row.epoch, row.at, tensorboard)
    ended = last if record.ended is None else record.ended
    yield _scalars(record.results, len(record.epochs), ended, tensorboard)
    about = "\n\n".join(f"{name}: {text}" for name, text in record.about.items())
    yield _text("outcome", about, ended, tensorboard)
    if record.state != State.RUNNING:
        status = "STATUS_FAILURE" if record.state == State.FAILED else "STATUS_SUCCESS"
        yield _end(tensorboard.status.Value(status), ended, tensorboard)


def _scalars(values: Any, step: int, at: float, tensorboard: _TensorBoard) -> Any:
    said = [tensorboard.summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return tensorboard.event(wall_time=at, step=step, summary=tensorboard.summary(value=said))


def _text(tag: str, text: str, at: float, tensorboard: _TensorBoard) -> Any:
    about = tensorboard.text_metadata.create_summary_metadata(display_name=tag, description="")
    return _value(tag, about, tensorboard.tensor([text.encode()]), at, tensorboard)


def _end(status: Any, at: float, tensorboard: _TensorBoard) -> Any:
    """Return that a run is over, for the table of hyperparameters."""
    end = tensorboard.plugin_data.SessionEndInfo(status=status, end_time_secs=at)
    data = tensorboard.plugin_data.HParamsPluginData(session_end_info=end)
    about = tensorboard.metadata.create_summary_metadata(data)
    return _value(tensorboard.metadata.SESSION_END_INFO_TAG, about, tensorboard.metadata.NULL_TENSOR, at, tensorboard)


def _value(tag: str, about: Any, tensor: Any, at: float, tensorboard: _TensorBoard) -> Any:
    value = tensorboard.summary.Value(tag=tag, metadata=about, tensor=tensor)
    return tensorboard.event(wall_time=at, summary=tensorboard.summary(value=[value]))
