"""TrainingService: training jobs, submitted."""

from __future__ import annotations

from ml_platform.v1.training_pb2 import SubmitTrainingJobRequest, SubmitTrainingJobResponse
from ml_platform_server.call import Call
from ml_platform_server.jobs.training import Training


class TrainingService:
    """Starts training jobs."""

    def __init__(self, *, training: Training) -> None:
        self._training = training

    async def SubmitTrainingJob(self, request: SubmitTrainingJobRequest, call: Call) -> SubmitTrainingJobResponse:
        """Start one run of a pipeline."""
        return SubmitTrainingJobResponse(job=await self._training.submit(request, call))
