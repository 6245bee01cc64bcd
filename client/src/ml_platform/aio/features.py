"""Feature views and online features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from itertools import islice
from uuid import uuid4

from ml_platform import rpcs
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.jobs import AsyncTrainingJob
from ml_platform.dates import Day, to_end, to_start
from ml_platform.errors import MLPlatformError, invalid
from ml_platform.records import Listing
from ml_platform.resources.definitions import (
    EntityKeys,
    EntitySpecs,
    FeatureSpecs,
    Rows,
    Source,
    to_entity_keys,
    to_names,
    to_rows,
    to_view,
)
from ml_platform.resources.features import (
    FeatureView,
    Materialization,
    OnlineFeatures,
    PushResult,
    SkippedRow,
    read_online,
    read_skipped,
    read_view,
)
from ml_platform.resources.jobs import read_submitted
from ml_platform.v1 import features_pb2 as pb
from ml_platform.values import build

# How many rows one call carries; more go in several calls.
PUSH_ROWS = 1000
# The most entities that the platform reads in one call.
READ_ENTITIES = 1000


class AsyncFeatures:
    """The part of the client that deals with features."""

    _invoker: AsyncInvoker

    async def register_feature_view(
        self,
        name: str,
        entities: EntitySpecs,
        features: FeatureSpecs,
        source: Source,
        *,
        timestamp_field: str = "event_timestamp",
        created_timestamp_column: str | None = None,
        ttl: float | timedelta | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> FeatureView:
        """Define a feature view. Registering the same definition again changes nothing.

        Args:
            name: the view's name.
            entities: what the features describe: {"user_id": "string"}, ["user_id"], or Entity objects.
            features: {"total": "int64"}, a list of (name, type), or Feature objects. Types are "string", "int32", "int64",
                "float", "double", "bool", "timestamp", "bytes", "string_list", "int64_list", "float_list", "double_list", or
                Python's own.
            source: a Parquet file, or a folder of them, as the server and the pipelines see it; or a FileSource.
            timestamp_field: the column with the time at which a row became true.
            created_timestamp_column: the column with the time at which a row was written, if there is one.
            ttl: how long a value counts as fresh, as a timedelta or in seconds; None means for ever.
            description: what the features are about.
            tags: free labels.
            request_id: makes a repeat of this call harmless.

        Raises:
            AlreadyExists: the name, or an entity's name, stands for another definition.

        Example:
            >>> await platform.register_feature_view(
            ...     "shop_sales", entities={"shop_id": "int64"}, features={"sold": "int64", "income": "double"},
            ...     source="/data/sales.parquet", ttl=timedelta(days=30),
            ... )
        """
        view = to_view(
            name,
            entities,
            features,
            source,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            ttl=ttl,
            description=description,
            tags=tags,
        )
        request = build(pb.RegisterFeatureViewRequest, feature_view=view, request_id=request_id)
        return read_view((await self._invoker.call(rpcs.REGISTER_FEATURE_VIEW, request)).feature_view)

    async def get_feature_view(self, name: str) -> FeatureView:
        """Look up a feature view.

        Raises:
            NotFound: there is no such view.

        Example:
            >>> [feature.name for feature in (await platform.get_feature_view("user_features")).features]
            ['total_transactions', 'avg_transaction_amount']
        """
        request = build(pb.GetFeatureViewRequest, name=name)
        return read_view((await self._invoker.call(rpcs.GET_FEATURE_VIEW, request)).feature_view)

    async def list_feature_views(self, *, limit: int | None = None) -> Listing[FeatureView]:
        """The feature views, by name.

        Example:
            >>> [view.name for view in await platform.list_feature_views()]
            ['shop_sales', 'user_features']
        """
        return await self._invoker.collect(
            rpcs.LIST_FEATURE_VIEWS, pb.ListFeatureViewsRequest(), lambda page: page.feature_views, read_view, limit=limit
        )

    async def materialize_features(
        self,
        feature_view: str | Sequence[str],
        start_date: Day,
        end_date: Day,
        wait: bool = True,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # asyncio.timeout would not tell the server
        request_id: str | None = None,
    ) -> Materialization:
        """Load the newest value per entity within a window of time from the history into the online store.

        Args:
            feature_view: the view, or several.
            start_date: the start of the window: a day begins at midnight UTC, a datetime is taken as it is.
            end_date: the end of the window: a day counts in full, a datetime is excluded. The window ends now at the latest, so
                today means up to now.
            wait: whether to wait until it is done.
            timeout: seconds to wait at most; None for as long as it takes.
            request_id: makes a repeat of this call harmless.

        Returns:
            What was done, with the status "materialized", or "submitted" if it was not waited for.

        Raises:
            NotFound: there is no such view.
            JobFailed: the job failed; the error says why.

        Example:
            >>> done = await platform.materialize_features("user_features", "2024-01-01", "2024-01-31")
            >>> done["status"]
            'materialized'
        """
        request = build(
            pb.MaterializeFeaturesRequest,
            feature_views=to_names(feature_view),
            start_time=to_start(start_date, "start_date"),
            end_time=to_end(end_date, "end_date"),
            request_id=request_id,
        )
        response = await self._invoker.call(rpcs.MATERIALIZE_FEATURES, request)
        job = AsyncTrainingJob(self._invoker, read_submitted(response.job))
        if wait:
            await job.wait(timeout=timeout)
        return Materialization(
            status="materialized" if wait else "submitted",
            job_id=job.job_id,
            feature_views=tuple(request.feature_views),
            start_time=request.start_time.ToDatetime(tzinfo=UTC),
            end_time=request.end_time.ToDatetime(tzinfo=UTC),
            message=job.message,
        )

    async def push_features(
        self, feature_view: str, rows: Rows, *, timestamp_field: str = "event_timestamp", request_id: str | None = None
    ) -> PushResult:
        """Write fresh values straight into the online store.

        The newest row of an entity wins; a row with the event time of the stored one replaces it. The result counts the rows that
        were skipped as older.

        Args:
            feature_view: the view to write to.
            rows: one mapping, a list of mappings, or a DataFrame, with every join key and every feature by name. None and NaN are
                written as missing.
            timestamp_field: the name under which a row holds the time its values became true; a row without it is of now.
            request_id: makes a repeat of this call harmless.

        Raises:
            NotFound: there is no such view or feature.
            InvalidArgument: a key or a feature is left out, a value does not fit its type, or a time lies more than a day ahead.

        Example:
            >>> await platform.push_features("user_features", {"user_id": "user_1", "total_transactions": 43})
            PushResult(status='pushed', row_count=1, skipped_count=0, skipped_rows=())
        """
        identity = request_id or str(uuid4())
        messages, written = to_rows(rows, timestamp_field=timestamp_field), 0
        skipped: list[SkippedRow] = []
        # Each part has an id of its own, made from the caller's, so that a repeat of the whole is harmless too.
        for part, chunk in enumerate(iter(lambda: list(islice(messages, PUSH_ROWS)), [])):
            part_id = f"{identity}.{part}" if part else identity
            request = build(pb.PushFeaturesRequest, feature_view=feature_view, rows=chunk, request_id=part_id)
            response = await self._invoker.call(rpcs.PUSH_FEATURES, request)
            written += response.row_count
            skipped += read_skipped(response, part * PUSH_ROWS)
        return PushResult(status="pushed", row_count=written, skipped_count=len(skipped), skipped_rows=tuple(skipped))

    async def get_online_features(
        self,
        entity_id: str | int | None = None,
        feature_views: str | Sequence[str] | None = None,
        entities: EntityKeys | None = None,
        feature_service: str | None = None,
    ) -> OnlineFeatures:
        """Read features from the online store, with each value's status and event time.

        Args:
            entity_id: the key's value, where the features have just one join key.
            feature_views: the features, each as "view:feature", or "view" for all of a view.
            entities: in place of `entity_id`: the join keys of one entity as a mapping, or a list of mappings or of key values.
                They are read 1,000 at a time.
            feature_service: in place of `feature_views`: all features of a feature service.

        Returns:
            `features`, `statuses` and `event_times` by feature name, of the first entity; `vectors` for all. An entity that the
            store does not know is no error: its values are None with the status "not_found".

        Raises:
            NotFound: there is no such view, feature or feature service.
            InvalidArgument: the keys given are not the join keys of the features.

        Example:
            >>> online = await platform.get_online_features("user_1", feature_views=["user_features:total_transactions"])
            >>> online["features"]
            {'total_transactions': 42}
        """
        names = to_names(feature_views)
        if bool(names) == bool(feature_service):
            raise invalid("feature_views", "give either feature_views or feature_service")
        keys, whole = to_entity_keys(entity_id, entities), pb.GetOnlineFeaturesResponse()
        for first in range(0, len(keys) or 1, READ_ENTITIES):
            part = keys[first : first + READ_ENTITIES]
            request = build(pb.GetOnlineFeaturesRequest, features=names, feature_service=feature_service, entities=part)
            try:
                response = await self._invoker.call(rpcs.GET_ONLINE_FEATURES, request)
            except MLPlatformError as error:
                if first:
                    error.message = f"Of the entities from {first} on: {error.message}"
                raise
            whole.MergeFrom(response)
        return read_online(whole)
