"""TOML -> StudySpec: finding a study file, overriding its keys, and saying what is wrong with it."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lrsearch.errors import StudyFileError, nearest
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.deciding import KINDS, LrSpec
from lrsearch.spec.sources import absolute, absolute_file, title
from lrsearch.spec.space import DEFAULT_OPTIMIZERS, DEFAULT_SCHEDULES
from lrsearch.spec.study import LONGEST_NAME, DatasetSpec, StudySpec

DEFAULT_STUDY = "digits"

OPTIONS: Mapping[str, str] = {
    "trials": "budget.trials",
    "trainings": "budget.trainings",
    "stop": "budget.stop",
    "dataset": "dataset.name",
    "model": "model.name",
    "weights": "model.weights",
    "train": "loop.name",
    "n_train": "loop.n_train",
    "steps_per_epoch": "loop.steps_per_epoch",
}
"""The key that an option of ``lrsearch run``, or a keyword of ``lrsearch.search``, stands for; others name theirs."""

DEFAULT_NAMES: dict[str, tuple[str, ...]] = {
    "space.optimizer": DEFAULT_OPTIMIZERS,
    "space.schedule": DEFAULT_SCHEDULES,
}

_PLAIN_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "a string",
    "a valid tuple": "a list",
}


def shipped() -> dict[str, str]:
    """Return the study files that come with lrsearch: name -> TOML text."""
    folder = resources.files("lrsearch.studies")
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in folder.iterdir() if p.name.endswith(".toml")}


def read(name_or_file: str) -> tuple[dict[str, Any], str]:
    """Return the tables of a study file and the words that name its place.

    Raises:
        StudyFileError: no such file or shipped study, not UTF-8, or not TOML.
    """
    path = Path(name_or_file)
    if path.suffix == ".toml" or _is_file(path):
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise StudyFileError(f"{path}: there is no such study file; write one with `lrsearch init`") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StudyFileError(f"{path}: the study file cannot be read: {error}") from None
        place, stem = str(path), path.stem
    else:
        known = shipped()
        if name_or_file not in known:
            names = sorted(known)
            if name_or_file in DATASETS:
                raise StudyFileError(
                    f"there is no study '{name_or_file}', which is a data set: search it with --dataset {name_or_file}"
                )
            raise StudyFileError(
                f"there is no study '{name_or_file}'{nearest(name_or_file, names)}: give the path of a study file "
                f"or one of {', '.join(names)}"
            )
        text, place, stem = known[name_or_file], f"study '{name_or_file}'", name_or_file
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(f"{place}: not a TOML file: {error}") from None
    tables.setdefault("name", stem)
    return tables, place


def base(study: str | None, keys: Collection[str]) -> tuple[dict[str, Any], str]:
    """Return what ``read`` does of the study that is named, or of the one that stands where none is.

    That is the default study; but nothing of it where a training loop of one's own is named by ``keys``, those of the
    study file that are set.
    """
    if study is None and "loop.name" in keys:
        return {"name": "loop"}, "--train"
    return read(study or DEFAULT_STUDY)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a name that no file can have, but a study may


_BY_NAME: Mapping[str, Mapping[str, type[BaseModel]]] = {**KINDS, "strategy": {"lr": LrSpec}}
"""Tables that may be written as their name alone: the kinds of each."""
_NO_TABLE = ("sampler",)
"""Names of kinds that are none: the strategy ``sampler`` is what decides where there is no table."""


def override(tables: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return the tables with ``key`` (dotted) set to ``value``.

    Naming optimizers or schedules where the file has tables of them keeps the tables of the named ones:
    ``space.optimizer = "adam"`` narrows a search without forgetting adam's ranges.

    Raises:
        StudyFileError: the key leads through something that is no table.
    """
    return _override(tables, key, value, key)


def _override(tables: Mapping[str, Any], path: str, value: object, key: str) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    out = dict(tables)
    inner = out.get(head)
    if path == key and head in _BY_NAME and isinstance(inner, str):
        inner = {"name": inner}
    if rest:
        if inner is None:
            # The file leaves it to the defaults, which stay where one parameter of one of them is set.
            inner = {name: {} for name in DEFAULT_NAMES.get(key.removesuffix(f".{rest}"), ())}
        if not isinstance(inner, Mapping):
            # Names stand for tables of defaults: space.optimizer = ["sgd"] is a table from here on.
            names = [inner] if isinstance(inner, str) else inner
            if not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
                raise StudyFileError(f"--set {key}: '{head}' is {inner!r}, not a table")
            inner = {name: {} for name in names}
        out[head] = _override(inner, rest, value, key)
    elif key in _BY_NAME and isinstance(value, str) and value not in _NO_TABLE:
        # Another kind keeps what it takes too.
        kept = inner if isinstance(inner, Mapping) else {}
        takes = _BY_NAME[key][value].model_fields if value in _BY_NAME[key] else kept
        out[head] = {name: setting for name, setting in kept.items() if name in takes} | {"name": value}
    elif head in ("optimizer", "schedule") and isinstance(inner, Mapping) and isinstance(value, str | list):
        names = [value] if isinstance(value, str) else value
        out[head] = {str(name): inner.get(str(name), {}) for name in names}
    else:
        out[head] = value
    return out


def parse_override(text: str) -> tuple[str, object]:
    """Parse ``KEY=VALUE`` of ``--set``; VALUE is TOML, and a bare word is a string.

    Raises:
        StudyFileError: no ``=``, or no key.
    """
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key or not all(key.split(".")):
        raise StudyFileError(f"--set {text}: must be KEY=VALUE, such as --set space.optimizer=adam")
    try:
        return key, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        if raw[:1] in ("[", "{", '"', "'"):
            raise StudyFileError(f"--set {text}: {raw} is not a TOML value") from None
        return key, raw


def build(tables: Mapping[str, Any], place: str, options: Mapping[str, str] | None = None) -> StudySpec:
    """Validate tables into a spec.

    Args:
        tables: those of the study file, overrides applied.
        place: words for where they come from.
        options: which option set a key, ``{"budget.trials": "--trials"}``; what is wrong with its value is said of the
            option, not of the place.

    Raises:
        StudyFileError: naming the place, the key, what came and what is known; of several errors the first.
    """
    try:
        return StudySpec.model_validate(dict(tables))
    except ValidationError as error:
        first, *others = error.errors()
        more = f" (and {len(others)} more)" if others else ""
        key = ".".join(_keys(first["loc"]))
        by = [option for mine, option in (options or {}).items() if f"{key}.".startswith(f"{mine}.")]
        where, sentence = by[-1] if by else place, _sentence(dict(first))
        if where.removesuffix(")").endswith(f"--{key}"):  # "--epochs", "LRSEARCH_EPOCHS (for --epochs)"
            sentence = sentence.removeprefix(f"{key}: ")
        raise StudyFileError(f"{where}: {sentence}{more}") from None


def resolved(
    tables: Mapping[str, Any],
    place: str,
    overrides: Sequence[tuple[str, object]],
    options: Mapping[str, str] | None = None,
) -> StudySpec:
    """Return the spec of a study file with keys of it overridden, in order.

    One that is of another data set than the file, and got no name, is called after what it trains on what: the file's
    name would say something else.

    Raises:
        StudyFileError: as ``build``.
    """
    of_file, had_a_loop = tables.get("dataset"), "loop" in tables
    for key, value in overrides:
        tables = override(tables, key, value)
    spec = anchored(build(tables, place, options))
    if spec.loop is not None:
        has_name = had_a_loop or any(key == "name" for key, _ in overrides)
        return spec if has_name else spec.model_copy(update={"name": title(spec.loop.name)})
    there = of_file.get("name") if isinstance(of_file, Mapping) else None
    if spec.dataset.name == absolute(there or DatasetSpec().name) or any(key == "name" for key, _ in overrides):
        return spec
    return spec.model_copy(update={"name": f"{title(spec.dataset.name)}-{title(spec.model.name)}"})


def anchored(spec: StudySpec) -> StudySpec:
    """Return the spec with the paths of a person's own files from the root; they are relative to the working folder."""
    dataset, model, loop = spec.dataset, spec.model, spec.loop
    if loop is not None:
        named = {"name": loop.name, "steps_per_epoch": loop.steps_per_epoch}
        paths = {key: absolute(value) for key, value in named.items() if isinstance(value, str)}
        return spec.model_copy(update={"loop": loop.model_copy(update=paths)})
    if dataset.own is not None:
        own = {"name": dataset.name, "classes": dataset.classes}
        paths = {key: absolute(value) for key, value in own.items() if value is not None}
        dataset = dataset.model_copy(update=paths)
    if model.needs_a_look or model.loss is not None:
        files = ("weights", "init_from")
        paths = {key: (absolute_file if key in files else absolute)(value) for key, value in model.places.items()}
        model = model.model_copy(update=paths)
    return spec.model_copy(update={"dataset": dataset, "model": model})


def load(name_or_file: str, overrides: Sequence[tuple[str, object]] = ()) -> StudySpec:
    """Read a study file or a shipped study and apply overrides in order."""
    return resolved(*read(name_or_file), overrides)


def _sentence(error: dict[str, Any]) -> str:
    loc = tuple(_keys(error["loc"]))
    kind_of = str(error["loc"][1]) if len(loc) < len(error["loc"]) else None
    key = ".".join(loc)
    came = error.get("input")
    kind, message = error["type"], str(error["msg"])
    match kind:
        case "union_tag_invalid":
            known = list(KINDS[loc[-1]])
            named = came.get("name") if isinstance(came, Mapping) else came
            return f"{key}.name: unknown name {named!r}{nearest(str(named), known)}; known: {', '.join(known)}"
        case "extra_forbidden" if kind_of is not None:
            own = [name for name in KINDS[loc[0]][kind_of].model_fields if name != "name"]
            takes = f"takes {', '.join(own)}" if own else "takes no settings"
            return f"'{key}' is not a setting of the {loc[0]} '{kind_of}'{nearest(loc[-1], own)}, which {takes}"
        case "extra_forbidden":
            known = _known_keys(loc[:-1])
            return f"unknown key '{key}'{nearest(str(loc[-1]), known)}; known here: {', '.join(known)}"
        case "missing":
            return f"the key '{key}' is missing"
        case "literal_error":
            known = _literals(loc)
            return f"{key}: unknown name {came!r}{nearest(str(came), known)}; known: {', '.join(known)}"
        case "value_error":
            message = message.removeprefix("Value error, ")
            return f"{key}: {message}" if key else message
        case "string_pattern_mismatch" if isinstance(came, str) and len(came) > LONGEST_NAME:
            return f"{key}: must have at most {LONGEST_NAME} characters, got {len(came)}"
        case "string_pattern_mismatch":
            return f"{key}: must be letters, digits, '.', '_' and '-', starting with a letter or digit, got {came!r}"
        case "model_type" | "model_attributes_type":
            return f"{key}: must be a table ([{key}]), got {came!r}"
        case _:
            said = (message[0].lower() + message[1:]).removeprefix("input should be ")
            return f"{key}: must be {_PLAIN_WORDS.get(said, said)}, got {came!r}"


def _keys(loc: Sequence[str | int]) -> list[str]:
    """Return the keys on the way to an error, without the kind of a table, which pydantic puts between."""
    parts = [str(part) for part in loc]
    return [part for i, part in enumerate(parts) if not (i == 1 and part in KINDS.get(parts[0], ()))]


def _model_at(loc: Sequence[str | int]) -> type[BaseModel] | None:
    model: type[BaseModel] = StudySpec
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _model_of(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _model_of(annotation: object) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _known_keys(loc: Sequence[str | int]) -> list[str]:
    model = _model_at(loc)
    return list(model.model_fields) if model else []


def _literals(loc: Sequence[str | int]) -> list[str]:
    model = _model_at(loc[:-1])
    annotation = model.model_fields[str(loc[-1])].annotation if model else None
    alternatives = (annotation, *get_args(annotation))
    return [str(value) for one in alternatives if get_origin(one) is Literal for value in get_args(one)]
