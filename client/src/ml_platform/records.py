"""What results are made of: frozen objects that also answer like dictionaries, and lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ml_platform import display
from ml_platform.errors import ConfigurationError, MLPlatformError
from ml_platform.values import EXACT_INTEGERS

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


class Record(Mapping[str, Any]):
    """A result. Subclasses are frozen dataclasses; `record["field"]`, `.get`, `.keys()` and `in` work as on a dictionary.

    `print` shows what is set, shortened; a notebook shows a table.
    """

    __slots__ = ()
    # Dataclasses fill this in; it is declared here for type checkers.
    __dataclass_fields__: Any

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401  # each field has its own type
        if key not in self.__dataclass_fields__:
            raise KeyError(f"{type(self).__name__} has no {key!r}; it has {', '.join(self)}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def __repr__(self) -> str:
        return display.line(type(self).__name__, self)

    def _repr_html_(self) -> str:
        return display.html_record(type(self).__name__, self)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, all the way down."""
        return {key: plain(value) for key, value in self.items()}


class Listing(list[T]):
    """A list of results, complete: the client has fetched every page. It is a plain list that also turns into a DataFrame.

    `print` shows a table that fits the terminal, and a notebook an HTML table.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return display.table(self) if self else "[]"

    def _repr_html_(self) -> str:
        return display.html_table(self) if self else "[]"

    def to_pandas(self) -> DataFrame:
        """One row for each result. Dictionaries spread over columns: `metrics.accuracy`, `params.max_depth`.

        Where an error stands in place of a result, its row has nothing but its text, in the column `error`.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        return to_pandas(self)


def to_pandas(records: Iterable[Any]) -> DataFrame:
    """Make a DataFrame with one row for each record."""
    try:
        import pandas as pd  # noqa: PLC0415  # an extra, and slow to import
    except ImportError as error:
        raise ConfigurationError(
            "pandas is not installed.", reason="EXTRA_MISSING", remedy='Install it: pip install "ml-platform-sdk[pandas]".'
        ) from error
    rows = [_row(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _series(pd, [row.get(name) for row in rows]) for name in names}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def _series(pd: Any, values: list[Any]) -> Any:  # noqa: ANN401  # the module, and a Series of it
    """A column of the type that pandas would take, but for integers that would become floating-point numbers, and others with it.

    With gaps they are a nullable `Int64`; those that it cannot hold, or beside fractions no double, stay Python's.
    """
    kinds = {type(value) for value in values}
    if int in kinds and kinds - {int}:
        numbers = [value for value in values if type(value) is int]
        if kinds == {int, type(None)} and -(2**63) <= min(numbers) and max(numbers) < 2**63:
            return pd.Series(values, dtype="Int64")
        if any(abs(number) > EXACT_INTEGERS for number in numbers):
            return pd.Series(values, dtype="object")
    return pd.Series(values)


def plain(value: object) -> Any:  # noqa: ANN401  # whatever a record can hold
    """Turn records into dictionaries and tuples into lists, all the way down."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _row(record: Mapping[str, Any] | MLPlatformError) -> dict[str, Any]:
    if isinstance(record, MLPlatformError):
        return {"error": str(record)}
    row: dict[str, Any] = {}
    for key, value in plain(record).items():
        if isinstance(value, dict):
            row.update({f"{key}.{name}": item for name, item in value.items()})
        else:
            row[key] = value
    return row
