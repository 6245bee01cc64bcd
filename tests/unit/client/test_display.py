"""What people see of results: lines, tables and HTML."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ml_platform import Listing, MLPlatformError, Run
from ml_platform.records import Record
from ml_platform.resources.experiments import read_run
from ml_platform.resources.jobs import JobHandle, read_job
from ml_platform.v1 import experiments_pb2, jobs_pb2


def run(name: str = "r1", **fields) -> Run:
    return read_run(experiments_pb2.Run(run_id=name, experiment_id="7", status=experiments_pb2.RUN_STATUS_FINISHED, **fields))


def test_a_record_is_one_short_line():
    """What is set is shown, long values are shortened, and nothing is longer than a few lines of a terminal."""
    short = run(metrics={"auc": 0.93})
    assert repr(short) == "Run(run_id='r1', experiment_id='7', status='finished', metrics={auc: 0.93})"
    long = run(
        params={f"p{n}": "v" * 500 for n in range(500)}, tags={f"t{n}": "v" * 500 for n in range(500)}, run_name="n" * 5000
    )
    assert len(repr(long)) < 300
    assert long["run_name"] == "n" * 5000
    assert "run_name='nnn" in repr(long)


def test_every_record_shows_itself_so():
    """No record has the endless line that dataclasses make."""
    assert [kind.__name__ for kind in Record.__subclasses__() if kind.__repr__ is not Record.__repr__] == []


def test_a_listing_is_a_table(monkeypatch: pytest.MonkeyPatch):
    """One line a result under the names of the fields that are set, no wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "60")
    runs = Listing([run(f"r{n}", run_name=f"try {n}", params={"depth": "3"}) for n in range(3)])
    assert repr(runs).splitlines() == [
        "run_id  experiment_id  run_name  status    params",
        "r0      7              try 0     finished  {depth: 3}",
        "r1      7              try 1     finished  {depth: 3}",
        "r2      7              try 2     finished  {depth: 3}",
    ]
    wide = Listing([run("r", run_name="n" * 200, params={"depth": "3"})])
    assert max(map(len, repr(wide).splitlines())) <= 60


def test_a_link_is_shown_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch):
    """A shortened link opens nothing."""
    url = f"http://127.0.0.1:5000/#/experiments/123456789012345678/runs/{'a' * 32}"
    linked = run(url=url)
    assert f"url={url!r}" in repr(linked)
    monkeypatch.setenv("COLUMNS", "200")
    assert url in repr(Listing([linked]))
    monkeypatch.setenv("COLUMNS", "80")
    assert "http" not in repr(Listing([linked]))
    assert f'href="{url}"' in Listing([linked])._repr_html_()


def test_a_long_listing_says_how_many_follow():
    """A hundred results show twenty and a count."""
    lines = repr(Listing([run(str(n)) for n in range(100)])).splitlines()
    assert (len(lines), lines[-1]) == (22, "... and 80 more")


def test_an_empty_listing_is_an_empty_list():
    """Nothing found looks like nothing."""
    assert (repr(Listing()), Listing()._repr_html_()) == ("[]", "[]")


def test_errors_among_results_are_shown():
    """Where a row failed its error stands in a column of its own."""
    mixed: Listing[object] = Listing([run("r1"), MLPlatformError("It failed.", reason="MODEL_FAILED")])
    assert "It failed. (MODEL_FAILED)" in repr(mixed)
    assert "It failed. (MODEL_FAILED)" in mixed._repr_html_()


def test_notebooks_get_tables_without_anybodys_markup():
    """Records, listings and jobs are HTML tables; what users wrote is escaped."""
    evil = run(run_name="<script>alert(1)</script>")
    job = JobHandle(read_job(jobs_pb2.Job(job_id="<b>j</b>", state=jobs_pb2.JOB_STATE_RUNNING)))
    for html in (evil._repr_html_(), Listing([evil])._repr_html_(), job._repr_html_()):
        assert html.startswith("<table>")
        assert "<script>" not in html
        assert "<b>" not in html
    assert "&lt;script&gt;" in evil._repr_html_()


def test_times_are_readable():
    """A time is shown to the second."""
    moment = datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC)
    found = experiments_pb2.Run(run_id="r")
    found.start_time.FromDatetime(moment)
    assert "start_time=2024-05-01 12:30:15" in repr(read_run(found))
