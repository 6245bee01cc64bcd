"""What a watch remembers between messages and across broken connections. No input or output happens here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ml_platform.errors import Code, DeadlineExceeded, MLPlatformError, Unavailable
from ml_platform.resources.jobs import Job, JobUpdate, read_update
from ml_platform.retry import backoff
from ml_platform.v1 import jobs_pb2

# What a connection that breaks in the middle of a stream may look like, depending on what stands in between.
_BROKEN = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED})


@dataclass(slots=True)
class WatchState:
    """Follows one job over as many streams as it takes.

    Attributes:
        job_id: the job.
        sequence: the last sequence seen, to go on after.
        timeout: seconds that all of it may take; None for no limit.
        patience: seconds without a message after which a platform that went away counts as gone.
        retries: how often the very first connection is tried again.
        heartbeats: whether heartbeats are told.
    """

    job_id: str
    sequence: int
    timeout: float | None
    patience: float
    retries: int
    heartbeats: bool
    job: Job | None = None
    done: bool = False
    _failures: int = 0
    _deadline: float | None = field(init=False)
    _last_heard: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clocks."""
        self._last_heard = time.monotonic()
        self._deadline = None if self.timeout is None else self._last_heard + self.timeout

    def request(self) -> jobs_pb2.WatchJobRequest:
        """The request that goes on where the last stream ended."""
        return jobs_pb2.WatchJobRequest(job_id=self.job_id, resume_after=self.sequence)

    def remaining(self) -> float | None:
        """Seconds left; None for no limit."""
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def heard(self, message: jobs_pb2.WatchJobResponse) -> JobUpdate | None:
        """Take in a message; None if there is nothing to tell."""
        self._failures = 0
        self._last_heard = time.monotonic()
        self.sequence = max(self.sequence, message.sequence)
        update = read_update(message, self.job)
        if update is None:
            return None
        self.job = update.job
        self.done = update.event == "terminal"
        return update if self.heartbeats or update.event != "heartbeat" else None

    def pause_after(self, error: MLPlatformError | None) -> float:
        """Seconds to wait before going on with a new stream; None as the error is a stream that ended without a last word.

        Raises:
            MLPlatformError: going on makes no sense.
        """
        if isinstance(error, DeadlineExceeded):
            raise self._too_late(error)
        error = error or Unavailable(f"The watch of job {self.job_id} ended without a last enum_name.", remedy="Watch it again.")
        self._failures += 1
        if not self._may_go_on(error):
            raise error
        pause = max(backoff(self._failures), error.retry_after or 0.0)
        return min(pause, self.remaining() or pause)

    def _may_go_on(self, error: MLPlatformError) -> bool:
        broken = error.code == Code.UNAVAILABLE or (error.code in _BROKEN and not error.reason)
        if self.job is None:
            return broken and self._failures <= self.retries
        return broken and time.monotonic() - self._last_heard < self.patience

    def _too_late(self, error: DeadlineExceeded) -> DeadlineExceeded:
        state = f" was still {self.job.state}" if self.job else " was not seen"
        return DeadlineExceeded(
            f"Job {self.job_id}{state} after {self.timeout:g} seconds." if self.timeout else error.message,
            reason=error.reason,
            remedy="The job goes on. Wait again, or for longer.",
            correlation_id=error.correlation_id,
        )
