"""A training loop of a person's own: the table [loop] of a study file."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from lrsearch.spec import sources
from lrsearch.spec.space import Strict

MOST_EXAMPLES = 10**12
"""In an epoch; what is more is a slip of the keys."""

Examples = Annotated[int, Field(ge=1, le=MOST_EXAMPLES)]


class LoopSpec(Strict):
    """A generator function that trains by itself, and what must be known of it to say how long an epoch is."""

    name: Annotated[str, StringConstraints(min_length=1)]
    """``FILE.py:FUNCTION`` or ``package.module:function``: it is called with a ``lrsearch.Run``."""
    n_train: Examples | None = None
    """Training examples of an epoch: an update for each batch of them."""
    steps_per_epoch: int | str | None = None
    """Updates of an epoch; or a function of one's own that returns them for a ``batch_size``."""
    n_validation: Examples | None = None
    """Validation examples, from which the standard error of an accuracy follows; nobody knows it by default."""
    args: dict[str, Any] | None = None
    """Keywords for the function."""

    @property
    def own(self) -> sources.Code:
        """The function."""
        found = sources.code_of(self.name)
        assert found is not None
        return found

    @property
    def counts_steps(self) -> sources.Code | None:
        """The function that returns the updates of an epoch; None where none is named."""
        return sources.code_of(self.steps_per_epoch) if isinstance(self.steps_per_epoch, str) else None

    @field_validator("steps_per_epoch", mode="before")
    @classmethod
    def _is_a_count(cls, raw: object) -> object:
        is_count = isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= MOST_EXAMPLES
        if not (raw is None or is_count or (isinstance(raw, str) and sources.code_of(raw) is not None)):
            raise ValueError(f"must be a whole number from 1, or {sources.FORMS_OF_CODE}, got {raw!r}")
        return raw

    @field_validator("name")
    @classmethod
    def _is_a_function(cls, name: str) -> str:
        if sources.code_of(name) is None:
            raise ValueError(f"must be {sources.FORMS_OF_CODE}, got {name!r}")
        return name

    @model_validator(mode="after")
    def _says_how_long_an_epoch_is(self) -> "LoopSpec":
        if (self.n_train is None) == (self.steps_per_epoch is None):
            given = "neither" if self.n_train is None else "both"
            raise ValueError(
                f"a schedule needs to know how long an epoch is: give n_train, the training examples of an epoch, or "
                f"steps_per_epoch, its updates; got {given}"
            )
        return self
