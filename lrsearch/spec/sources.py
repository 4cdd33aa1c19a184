"""What a study file may name that is somebody's own: pictures in a folder or a table, and functions in a file."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, get_args

from lrsearch import given

Kind = Literal["folder", "csv"]
Package = Literal["torchvision", "timm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PACKAGES: tuple[Package, ...] = get_args(Package)
FORMS_OF_CODE = "'FILE.py:FUNCTION' or 'package.module:function'"
FORMS_OF_DATA = "'folder:PATH', 'csv:FILE', 'FILE.py:FUNCTION' or 'package.module:function'"
FORMS_OF_MODELS = "'torchvision/NAME', 'timm/NAME', 'FILE.py:FUNCTION' or 'package.module:function'"


@dataclass(frozen=True, slots=True)
class Code:
    """A function of somebody's own."""

    where: str
    """A path that ends in ``.py``, or a module."""
    function: str

    @property
    def in_file(self) -> bool:
        """Whether it stands in a file that is named, and not in a module that is imported by name."""
        return self.where.endswith(".py")

    def __str__(self) -> str:
        return f"{self.where}:{self.function}"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of somebody's own: a folder for each class, or a table of files and labels."""

    kind: Kind
    path: str


@dataclass(frozen=True, slots=True)
class Zoo:
    """A model of a package."""

    package: Package
    name: str


def code_of(text: str) -> Code | None:
    """Return the function that ``FILE.py:FUNCTION`` or ``package.module:function`` names; None where it is neither.

    >>> code_of("nets/mine.py:build")
    Code(where='nets/mine.py', function='build')
    """
    where, colon, function = text.rpartition(":")
    if not colon or not function.isidentifier():
        return None
    is_module = all(part.isidentifier() for part in where.split("."))
    return Code(where, function) if where.endswith(".py") or is_module else None


def data_of(text: str) -> Pictures | Code | None:
    """Return what the name of a data set stands for that has no record; None where it has no form of those."""
    for kind in KINDS:
        if text.startswith(prefix := f"{kind}:"):
            path = text.removeprefix(prefix)
            return Pictures(kind, path) if path else None
    return code_of(text)


def model_of(text: str) -> Zoo | Code | None:
    """Return what the name of a model stands for that has no record; None where it has no form of those."""
    for package in PACKAGES:
        if text.startswith(prefix := f"{package}/"):
            name = text.removeprefix(prefix)
            return Zoo(package, name) if name else None
    return code_of(text)


def title(text: str) -> str:
    """Return what somebody's own is called in the name of a study: letters, digits, ``.``, ``_`` and ``-``.

    >>> [title(one) for one in ("folder:/data/my pets/", "torchvision/resnet18", "nets/mine.py:build", "cnn")]
    ['my-pets', 'resnet18', 'mine', 'cnn']
    """
    own = data_of(text) or model_of(text)
    match own:
        case Code(where=given.MODULE, function=function):
            name = function
        case Pictures(path=path):
            name = PurePath(path).stem if own.kind == "csv" else PurePath(path).name
        case Zoo(name=name):
            pass
        case Code(where=where):
            name = PurePath(where).stem if own.in_file else where.rpartition(".")[2]
        case None:
            name = text
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:40] or "own"


def without_folder(text: str) -> str:
    """Return what names somebody's own without the folder in which it lies.

    >>> [without_folder(one) for one in ("/home/me/nets/mine.py:build", "timm/resnet18", "/mnt/lite0.safetensors")]
    ['mine.py:build', 'timm/resnet18', 'lite0.safetensors']
    """
    return text if isinstance(model_of(text), Zoo) else PurePath(text).name


def absolute(text: str) -> str:
    """Return what names somebody's own with its path from the root: a study is gone on with from other folders.

    What is no path stays as it is.
    """
    own = data_of(text) or model_of(text)
    match own:
        case Pictures(path=path):
            return f"{own.kind}:{_absolute(path)}"
        case Code() if own.in_file:
            return str(Code(_absolute(own.where), own.function))
        case _:
            return text


def absolute_file(text: str) -> str:
    """Return what names weights with its path from the root, where it is a file or a folder that is there."""
    return _absolute(text) if Path(text).expanduser().exists() else text


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
