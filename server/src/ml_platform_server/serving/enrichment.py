"""Completes rows: what the caller did not send is read from the feature store, once for the whole batch.

What the caller sent wins over what is stored. Inputs that are neither a column nor a join key are let pass and told in the access
log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.bindings import Binding, FeatureReader, narrowed, resolve
from ml_platform_server.serving.columns import Column, Unsuitable
from ml_platform_server.serving.join_keys import absent_keys, taken_keys
from ml_platform_server.serving.reads import Outcome, Reads
from ml_platform_server.serving.rows import Fields, Row, taken, unsuitable

_log = structlog.get_logger(__name__)

MAX_NARROW_BINDINGS = 64


class Enrichment:
    """The features of one model version: resolved once, read for each batch."""

    def __init__(self, *, version: models_pb2.ModelVersion, columns: Sequence[Column], reader: FeatureReader) -> None:
        self._version = version
        self._columns = columns
        self._reader = reader
        self._resolving = asyncio.Lock()
        self._resolved = False
        self._binding: Binding | None = None
        self._narrow: dict[tuple[int, ...], Binding] = {}
        self._known = frozenset(column.name for column in columns)

    @property
    def binding(self) -> Binding | None:
        """The columns that the feature store supplies; None while that is not known, or if there are none."""
        return self._binding

    async def prepare(self) -> None:
        """Resolve the features ahead of the first row. A feature store that is down is no reason not to serve: see `enrich`."""
        try:
            await self._bound()
        except PlatformError as error:
            _log.warning(
                "features_not_resolved", model=self._version.model_name, version=self._version.version, reason=error.reason_name
            )

    async def enrich(self, rows: Sequence[Row]) -> list[Outcome]:
        """Complete the rows in place, with at most one read for all of them where they need the same features.

        Returns:
            For each row None, or the error that keeps it from being predicted; the other rows are not touched by it.
        """
        outcomes: list[Outcome] = [None] * len(rows)
        lacking = [at for at, row in enumerate(rows) if row.missing]
        if not lacking:
            return outcomes
        try:
            binding = await self._bound()
        except PlatformError as error:
            for at in lacking:
                if any(self._columns[column].required for column in rows[at].missing):
                    outcomes[at] = error
            return outcomes
        reads = Reads(self._columns, rows, outcomes)
        for at in lacking:
            outcomes[at] = await self._planned(rows[at], at, binding, reads)
        await reads.run(self._reader)
        self._forget_if_gone(outcomes)
        return outcomes

    def extras(self, fields: Fields) -> list[str]:
        """The inputs that nothing uses."""
        return sorted(name for name in fields if name not in self._known)

    async def _bound(self) -> Binding | None:
        if not self._resolved:
            async with self._resolving:
                if not self._resolved:
                    self._binding = await resolve(self._version, self._columns, self._reader)
                    self._resolved = True
                    self._known |= self._binding.names() if self._binding else frozenset()
        return self._binding

    async def _planned(self, row: Row, at: int, binding: Binding | None, reads: Reads) -> Outcome:
        """Decide what to read for a row that lacks columns; the error if it cannot be completed."""
        try:
            if binding is None:
                _raise_if_absent(self._columns, row.missing, ())
                return None
            self._take_aliases(row, binding)
            needed = [column for column in row.missing if column in binding.features]
            others = [column for column in row.missing if column not in binding.features]
            if needed:
                binding = await self._suited(row, binding, needed)
                _raise_if_absent(self._columns, others, absent_keys(row.fields, binding.plan.join_keys), needed)
                reads.add(binding, at, needed, taken_keys(row.fields, binding.plan.join_keys))
            else:
                _raise_if_absent(self._columns, others, ())
        except PlatformError as error:
            return error
        return None

    def _take_aliases(self, row: Row, binding: Binding) -> None:
        violations: list[Violation] = []
        for column in list(row.missing):
            alias = binding.aliases.get(column)
            if alias is None or alias not in row.fields:
                continue
            try:
                row.values[column] = taken(self._columns[column], row.fields[alias])
            except Unsuitable as error:
                violations.append(Violation(f"inputs.{alias}", str(error)))
            row.missing.remove(column)
        if violations:
            raise unsuitable(violations)

    async def _suited(self, row: Row, binding: Binding, needed: list[int]) -> Binding:
        """The binding to read with: one that asks for less, if the row lacks a join key that only features it sent may need."""
        if len(needed) == len(binding.features) or not absent_keys(row.fields, binding.plan.join_keys):
            return binding
        wanted = tuple(needed)
        if wanted not in self._narrow:
            if len(self._narrow) >= MAX_NARROW_BINDINGS:
                self._narrow.clear()
            self._narrow[wanted] = await narrowed(binding, needed, self._columns, self._reader)
        return self._narrow[wanted]

    def _forget_if_gone(self, outcomes: Sequence[Outcome]) -> None:
        """Resolve again next time when the feature store no longer knows what it knew."""
        gone = (errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND)
        if any(error is not None and error.reason in gone for error in outcomes):
            self._resolved = False
            self._narrow.clear()


def _raise_if_absent(
    columns: Sequence[Column], lacking: Sequence[int], keys: Sequence[str], supplied: Sequence[int] = ()
) -> None:
    """Raise INPUT_MISSING, naming everything at once, if required columns or join keys were not sent."""
    required = [columns[at] for at in lacking if columns[at].required]
    if not required and not keys:
        return
    names = ", ".join(columns[at].name for at in supplied)
    violations = [Violation(f"inputs.{column.name}", f"the model needs it ({column.type})") for column in required]
    violations += [Violation(f"inputs.{key}", f"the join key that looks up {names}") for key in keys]
    missing = ", ".join([column.name for column in required] + list(keys))
    remedy = f"Send the join key, or {names} themselves." if keys else "Send every column that no feature supplies."
    raise PlatformError(
        errors_pb2.ERROR_REASON_INPUT_MISSING,
        f"The inputs lack {missing}{f' (by which {names} would be looked up)' if keys else ''}.",
        remedy=remedy,
        violations=violations,
    )
