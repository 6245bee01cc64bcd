"""Materialization jobs: load features from the history into the online store."""

from __future__ import annotations

import asyncio

from google.protobuf import timestamp_pb2

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.features_pb2 import MaterializeFeaturesRequest
from ml_platform.v1.jobs_pb2 import Job
from ml_platform_server.call import Call
from ml_platform_server.errors import invalid
from ml_platform_server.jobs.jobs import Jobs, JobSpec
from ml_platform_server.jobs.ports import Views
from ml_platform_server.settings import AirflowSettings


class Materialization:
    """Starts materialization jobs."""

    def __init__(self, *, jobs: Jobs, views: Views, settings: AirflowSettings) -> None:
        self._jobs = jobs
        self._views = views
        self._settings = settings

    async def submit(self, request: MaterializeFeaturesRequest, call: Call) -> Job:
        """Start a job that loads views for a window of time, which ends now at the latest.

        Raises:
            PlatformError: INVALID_FIELDS, FEATURE_VIEW_NOT_FOUND, and what Jobs.submit raises.
        """
        now = timestamp_pb2.Timestamp()
        now.GetCurrentTime()
        if request.start_time.ToNanoseconds() >= now.ToNanoseconds():
            raise invalid("start_time", "lies ahead; there is no history yet")
        # What has not happened yet belongs to a later window: Feast counts a window as done up to its end.
        end = min(request.end_time, now, key=lambda time: time.ToNanoseconds())
        names = list(dict.fromkeys(request.feature_views))
        await asyncio.gather(*(self._views.get(name) for name in names))
        conf = {
            "feature_views": names,
            "start_time": request.start_time.ToJsonString(),
            "end_time": end.ToJsonString(),
        }
        return await self._jobs.submit(
            JobSpec(
                kind=jobs_pb2.JOB_KIND_MATERIALIZATION,
                pipeline=self._settings.materialization_pipeline,
                conf=conf,
                principal=call.principal.name,
                request_id=request.request_id,
            )
        )
