"""What is wrong with a command line, in one sentence: what must hold, what came, and where to read on.

typer's own messages name the option but not always what came. Its exception classes are private, so that they are
known here by what they carry; one that is not known is told in typer's words.
"""

import re
from collections.abc import Sequence
from typing import Any

from lrsearch.errors import nearest


def sentence(error: Any, group: Any, words: Sequence[str]) -> str:
    """Return the sentence.

    Args:
        error: typer's exception.
        group: the command ``lrsearch`` with its commands.
        words: the command line, ``lrsearch`` itself left out.
    """
    context, name = getattr(error, "ctx", None), next((word for word in words if word in group.commands), None)
    command = context.command if context is not None else group.commands.get(name, group)
    path = context.command_path if context is not None else " ".join(["lrsearch", *([name] if name else [])])
    return f"{_said(error, command, words)} (see `{path} --help`)"


def _said(error: Any, command: Any, words: Sequence[str]) -> str:
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    message = str(error.format_message()).rstrip(".")
    if option is not None:
        return _of_option(option, command, words)
    if param is not None and type(error).__name__ == "MissingParameter":
        return f"{command.name} must be given {_name(param, None)} ({_help(param)}), got none"
    if param is not None and (came := _input(error)) is not None:
        return f"{_name(param, getattr(error, 'ctx', None))} must be {_kind(param)}, got {_shown(came)}"
    if found := re.fullmatch(r"Got unexpected extra argument\(s\) \((.*)\)", message, re.DOTALL):
        known = [_name(param, None) for param in command.params if param.param_type_name == "argument"]
        most = f"no more arguments than {' and '.join(known)}" if known else "no arguments"
        return f"{command.name} must have {most}, got {_shown(found[1])}"
    if found := re.match(r"No such command '(.*?)'(?:\.|$)", message, re.DOTALL):
        known = list(command.commands)
        return f"there is no command {_named(found[1])}{nearest(found[1], known)}; it must be one of {', '.join(known)}"
    return message


def _of_option(option: str, command: Any, words: Sequence[str]) -> str:
    """Return what is wrong where an option is unknown, lacks its value, or has one too many."""
    known = {opt: param for param in command.params for opt in (*param.opts, *param.secondary_opts) if opt[:1] == "-"}
    if option not in known:
        # Of short ones every other is near.
        hint = nearest(option, [opt for opt in known if opt.startswith("--")]) if option.startswith("--") else ""
        return f"there is no option {_named(option)}{hint}"
    if known[option].is_flag:
        came = next((word.partition("=")[2] for word in words if word.startswith(f"{option}=")), "")
        return f"{option} must stand alone, got the value {_shown(came)}"
    return f"{option} must have a value ({_kind(known[option])}), got none"


def option_in(context: Any, param_name: str) -> str:
    """Return what a person has typed for a parameter of the command: its option, or the variable that stood for it."""
    return _name(next(param for param in context.command.params if param.name == param_name), context)


def _name(param: Any, context: Any) -> str:
    """Return the option as it is typed, or the variable that stood for it, or the argument as the help has it."""
    source = context.get_parameter_source(param.name) if context is not None else None
    if getattr(source, "name", "") == "ENVIRONMENT":
        return f"{param.envvar} (for {param.opts[0]})"
    return str(param.opts[0]) if param.param_type_name == "option" else str(param.metavar or param.human_readable_name)


def _help(param: Any) -> str:
    text = str(param.help or "").rstrip(".")
    return text[:1].lower() + text[1:]


def _kind(param: Any) -> str:
    """Return what a value must be."""
    described = param.type_descriptor
    if described.is_choice:
        return f"one of {', '.join(str(choice) for choice in described.choices)}"
    info, kind = described.parameter_info, {int: "a whole number", float: "a number"}.get(described.annotation)
    if kind is None:
        return str(param.metavar or _help(param))
    low = "" if info.min is None else f" of at least {info.min}"
    high = "" if info.max is None else f"{' and' if low else ' of'} at most {info.max}"
    return f"{kind}{low}{high}"


def _input(error: Any) -> object:
    """Return what came, as pydantic says; None where it was not pydantic that refused it."""
    errors = getattr(error.__cause__, "errors", None)
    return errors()[0]["input"] if errors is not None else None


def _named(name: str) -> str:
    return "of that name" if "://" in name else f"'{name}'"


def _shown(came: object) -> str:
    """Return what came in quotes, a number without; a URL is not repeated, because it may hold a password."""
    text = str(came)
    if "://" in text:
        return "a URL"
    return text if re.fullmatch(r"[+-]?[0-9.]+", text) else f"'{text}'"
