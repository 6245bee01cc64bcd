"""The demo tells each change once, ends with a status that scripts can use, and says what went wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from examples.fraud_detection import demo
from ml_platform import Job, JobUpdate, MLPlatform, Task

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


def task(name: str, state: str, seconds: float | None = None) -> Task:
    end = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    return Task(task_id=name, state=state, try_number=1, start_time=BEGAN, end_time=end, map_index=-1)


def update(event: str, state: str, tasks: list[Task], metrics: dict[str, float] | None = None) -> JobUpdate:
    job = Job(
        job_id="mlp-1",
        dag_id="train",
        status=state,
        state=state,
        message="",
        kind="training",
        pipeline="train",
        experiment_name="e",
        parameters={},
        submitted_by="ada",
        create_time=BEGAN,
        start_time=None,
        end_time=None,
        tasks=tuple(tasks),
        run_ids=(),
        best_run_id="",
        metrics=metrics or {},
        failed_task_id="",
    )
    return JobUpdate(event=event, job=job, sequence=1, observe_time=None)


def test_each_change_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A task is told when its state changes and a metric when its value does, and the last line is the job's end."""
    ended = demo.follow(
        [
            update("snapshot", "queued", [task("load", "pending"), task("fit", "pending")]),
            update("change", "running", [task("load", "running"), task("fit", "pending")]),
            update("change", "running", [task("load", "success", 2.5), task("fit", "running")], {"rows": 10.0}),
            update("change", "running", [task("load", "success", 2.5), task("fit", "running")], {"rows": 10.0, "loss": 0.5}),
            update(
                "terminal", "success", [task("load", "success", 2.5), task("fit", "success", 4.0)], {"rows": 10.0, "loss": 0.25}
            ),
        ]
    )
    told = [line[len("   ") + demo.WIDTH :].strip() for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "load running",
        "load success after 2.5 s",
        "fit running",
        "rows 10",
        "loss 0.5",
        "fit success after 4.0 s",
        "loss 0.25",
        "job success",
    ]
    assert ended.state == "success"


def test_a_platform_that_is_not_configured_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an address the demo ends with status 1 and says which variable is missing."""
    monkeypatch.delenv("ML_PLATFORM_API_URL", raising=False)
    assert demo.main() == 1
    assert "ML_PLATFORM_API_URL" in capsys.readouterr().err


def test_ctrl_c_ends_the_demo_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted demo ends with the status that shells give to Ctrl-C, without a traceback."""

    def interrupted(_platform: MLPlatform) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("ML_PLATFORM_API_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(demo, "day", interrupted)
    assert demo.main() == 130
    assert "Interrupted." in capsys.readouterr().err
