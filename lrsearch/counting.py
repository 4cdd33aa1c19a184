"""A number of things in words."""


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number of things in words.

    >>> counted(1, "epoch"), counted(0, "epoch"), counted(2, "study", "studies")
    ('1 epoch', '0 epochs', '2 studies')
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"
