"""Records by name: what there is to know of a schedule, an optimizer, a data set, a model or a metric, in one place.

lrsearch comes with some of each kind; a program that uses it may add its own before it reads a study file.
"""

from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """As it stands in a study file."""
        ...


Record = TypeVar("Record", bound=Named)


class Records(Mapping[str, Record], Generic[Record]):
    """The records of one kind, in the order in which they were added.

    Args:
        records: those that come with lrsearch.
    """

    def __init__(self, *records: Record) -> None:
        self._records = {record.name: record for record in records}
        self._closed = False

    def add(self, record: Record) -> None:
        """Have one more.

        Raises:
            ValueError: there is one of that name, or the study file's format has been made of those there were.
        """
        if record.name in self._records:
            raise ValueError(f"the name '{record.name}' is taken; known: {', '.join(self._records)}")
        if self._closed:
            raise ValueError(f"'{record.name}' must be added before lrsearch.spec is imported, whose keys follow it")
        self._records[record.name] = record

    def close(self) -> None:
        """Have no more: from here on somebody relies on what there is."""
        self._closed = True

    def __getitem__(self, name: str) -> Record:
        """Return the record of a name that is known."""
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._records)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._records)
