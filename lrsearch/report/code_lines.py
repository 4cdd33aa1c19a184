"""Lines of a program, as a formatter would break them."""


def folded(line: str, width: int) -> list[str]:
    """Return a call or list that is too long for a line as three lines, or as one line for each argument or item.

    >>> folded("x = call(first=1, second=(2, 3))", 28)
    ['x = call(', '    first=1, second=(2, 3)', ')']
    >>> folded("x = call(first=1, second=(2, 3))", 20)
    ['x = call(', '    first=1,', '    second=(2, 3),', ')']
    """
    begin = min((line.index(bracket) for bracket in "([" if bracket in line), default=-1) + 1
    end = max(line.rfind(bracket) for bracket in ")]")
    if len(line) <= width or "#" in line or not begin:
        return [line]
    inside, indent = line[begin:end], " " * (len(line) - len(line.lstrip()))
    whole, parts = f"{indent}    {inside}", _arguments(inside)
    # Formatters have the items of a list or a tuple stand alone.
    is_call = line[: begin - 1][-1:].isidentifier()
    if len(whole) <= width and (is_call or len(parts) == 1):
        return [line[:begin], whole, indent + line[end:]]
    lines = [one for part in parts for one in folded(f"{indent}    {part},", width)]
    return [line[:begin], *lines, indent + line[end:]]


def _arguments(inside: str) -> list[str]:
    """Return what stands between the commas that are in no bracket."""
    parts, depth, begin = [], 0, 0
    for i, character in enumerate(inside):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(inside[begin:i].strip())
            begin = i + 1
    return [*parts, inside[begin:].strip()]


def literal(value: object) -> str:
    """Return a value of a study file as code, in the quotes that formatters like.

    >>> print(literal({"a b": [1, "x", 'say "y"'], "c": None}))
    {"a b": [1, "x", 'say "y"'], "c": None}
    """
    match value:
        case str():
            written = repr(value)
            return f'"{written[1:-1]}"' if written[0] == "'" and '"' not in written else written
        case dict():
            return "{" + ", ".join(f"{literal(key)}: {literal(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
        case _:
            return repr(value)
