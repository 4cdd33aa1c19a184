"""By what a function is known that stands in no file: its source, and the source of what it uses of its own module.

A class that a notebook defines in one cell and builds in another is part of the network: were it left out, trials of
two networks would be compared as if they were of one.
"""

import ast
import builtins
import dis
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

LOADS: Final = ("LOAD_GLOBAL", "LOAD_NAME")
"""Instructions of Python that read a name of the module."""
AT: Final = " at 0x"
"""In the words of an object, what says that they tell its place in memory and not its content."""
LONGEST: Final = 100_000
"""Of the words of an object [characters]: longer ones are cut short by most packages."""


class SourceError(Exception):
    """A function that cannot be known by its source; the message says why, after its name."""


def digest(function: Callable[..., Any]) -> str:
    """Return the SHA-256 of a function's source, and of the functions, classes and values of its module that it uses.

    What it imports from other modules is not looked at.

    Raises:
        SourceError: Python has no source of it, or it uses something whose content no words tell.
    """
    texts: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        texts[_source(one)] = None
        for name, value in _used(one):
            waiting += (part for part in _parts(value) if _is_beside(part, function))
            if (said := _words(name, value)) is not None:
                texts[f"{name} = {said}"] = None
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def digest_of_word(word: str) -> str:
    """Return the SHA-256 that stands for a function which is known by a word of its author's."""
    return hashlib.sha256(f"key {word}".encode()).hexdigest()


def _source(one: Any) -> str:
    """Return the source of a function or a class."""
    try:
        if isinstance(one, FunctionType) and one.__name__ == "<lambda>":
            return _lambdas(one)
        return textwrap.dedent(inspect.getsource(one))
    except (OSError, TypeError, SyntaxError):
        if isinstance(one, type) and (text := _class(one)):
            return text
        raise SourceError("has no source that Python can find") from None


def _lambdas(function: FunctionType) -> str:
    """Return what begins a lambda's line: not all of its statement, which may say how many trials there are."""
    lines, _ = inspect.findsource(function)
    nodes = (node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.Lambda))
    found = [ast.unparse(node) for node in nodes if node.lineno == function.__code__.co_firstlineno]
    if not found:
        raise OSError
    return "\n".join(found)


def _class(one: type) -> str:
    """Return the source of a class of a notebook, which Python finds by its methods alone; empty without one."""
    for method in _functions(one):
        try:
            lines, _ = inspect.findsource(method)
            nodes = list(ast.walk(ast.parse("".join(lines))))
        except (OSError, TypeError, SyntaxError):
            continue
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name == one.__name__:
                return ast.unparse(node)
    return ""


def _used(one: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function or a class uses, by name: globals, what a closure holds, bases."""
    if isinstance(one, type):
        yield from ((base.__name__, base) for base in one.__bases__)
        for function in _functions(one):
            yield from _used(function)
        return
    function = inspect.unwrap(one)
    if not isinstance(function, FunctionType):
        return
    names = dict.fromkeys(_global_names(function.__code__))
    yield from ((name, function.__globals__[name]) for name in names if name in function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # nothing has been put there yet
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield from ((f"default {number}", value) for number, value in enumerate(defaults))


def _global_names(code: CodeType) -> Iterator[str]:
    yield from (str(one.argval) for one in dis.get_instructions(code) if one.opname in LOADS)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _functions(one: type) -> Iterator[FunctionType]:
    """Yield the methods that a class defines itself."""
    for value in vars(one).values():
        bare = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(bare, FunctionType) and bare.__module__ == one.__module__:
            yield bare


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value, or what a list, a tuple or a mapping holds."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    if inner is None:
        yield value
    else:
        for one in inner:
            yield from _parts(one)


def _is_beside(value: Any, function: Callable[..., Any]) -> bool:
    """Whether it is a function or a class of the same module, of which nobody else has a file."""
    return isinstance(value, FunctionType | type) and value.__module__ == function.__module__


def _words(name: str, value: Any) -> str | None:
    """Return what tells a value; None for what its name tells."""
    if isinstance(value, ModuleType) or getattr(builtins, name, None) is value:
        return None
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu().numpy()
    if callable(getattr(value, "tobytes", None)) and not getattr(getattr(value, "dtype", None), "hasobject", True):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, set | frozenset):
        value = sorted(map(repr, value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_words(name, one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(_words(name, one)) for one in value) + "]"
    said = repr(value)
    if AT in said or len(said) > LONGEST:
        raise SourceError(f"uses '{name}', {_article(type(value).__name__)}, whose content lrsearch cannot tell")
    return said


def _article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
