"""Experiments, through the door to a real MLflow server."""

from __future__ import annotations

import pytest

from ml_platform.v1 import experiments_pb2 as pb
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.backends.mlflow.models import Models
from tests.support.mlflow_server import MlflowServer, fresh_name
from tests.support.refusals import refused


class TestExperiments:
    async def test_a_new_experiment_keeps_its_tags_and_its_description_apart(self, experiments: Experiments) -> None:
        """What is created is what is read, by id and by name, and only the user's tags are shown."""
        name = fresh_name()
        made = await experiments.create(
            pb.CreateExperimentRequest(name=name, tags={"team": "risk"}, description="why", request_id="r1")
        )
        assert (made.name, dict(made.tags), made.description) == (name, {"team": "risk"}, "why")
        assert made.create_time.seconds > 0
        assert await experiments.get(experiment_id=made.experiment_id) == made
        assert await experiments.get(name=name) == made

    async def test_experiments_and_runs_link_to_their_pages(
        self, experiments: Experiments, experiment_id: str, mlflow_server: MlflowServer
    ) -> None:
        """Read alone and in lists, for people to open in a browser."""
        run = mlflow_server.client().create_run(experiment_id)
        page = f"{mlflow_server.uri}/#/experiments/{experiment_id}"
        found = await experiments.get(experiment_id=experiment_id)
        (newest, *_), _ = await experiments.list(1)
        listed, _ = await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id))
        assert (found.url, newest) == (page, found)
        assert listed == [await experiments.get_run(run.info.run_id)]
        assert listed[0].url == f"{page}/runs/{run.info.run_id}"

    async def test_a_repeat_after_a_crash_finds_the_first_experiment(self, experiments: Experiments) -> None:
        """The same request id finds what it made; another one, or none, is told that the name is taken."""
        name = fresh_name()
        made = await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        assert await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1")) == made
        for request_id in ("r2", ""):
            with refused("EXPERIMENT_EXISTS"):
                await experiments.create(pb.CreateExperimentRequest(name=name, request_id=request_id))

    async def test_the_name_of_a_deleted_experiment_stays_taken(
        self, experiments: Experiments, mlflow_server: MlflowServer
    ) -> None:
        """Whoever asks for it, by whichever way, reads that it was deleted."""
        name = fresh_name()
        made = await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        mlflow_server.client().delete_experiment(made.experiment_id)
        with refused("EXPERIMENT_DELETED"):
            await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        for which in ({"name": name}, {"experiment_id": made.experiment_id}):
            with refused("EXPERIMENT_DELETED"):
                await experiments.get(**which)
        with refused("EXPERIMENT_DELETED"):
            await experiments.list_runs(pb.ListRunsRequest(experiment_id=made.experiment_id))

    @pytest.mark.parametrize("key", ["🚀", "👩\u200d🔬 a:b/c", "what?!", "../x", "a:62:b", "."])
    async def test_a_tag_may_have_any_visible_key(self, experiments: Experiments, key: str) -> None:
        """Keys that MLflow refuses are encoded on the way in and decoded on the way out."""
        made = await experiments.create(pb.CreateExperimentRequest(name=fresh_name(), tags={key: "🚀"}))
        assert dict(made.tags) == {key: "🚀"}
        assert await experiments.get(name=made.name) == made

    @pytest.mark.parametrize("key", ["mlflow.note.content", "ml_platform.request_id", "ml_platform.key.a", "k" * 251, "🚀" * 100])
    async def test_a_tag_that_cannot_be_kept_is_refused(self, experiments: Experiments, key: str) -> None:
        """Reserved keys and keys that MLflow refuses are errors of the field, and make nothing."""
        name = fresh_name()
        with refused("INVALID_FIELDS") as error:
            await experiments.create(pb.CreateExperimentRequest(name=name, tags={key: "x"}))
        assert [violation.field for violation in error.value.violations] == ["tags"]
        with refused("EXPERIMENT_NOT_FOUND"):
            await experiments.get(name=name)

    async def test_a_page_with_much_in_it_is_shorter(self, experiments: Experiments, mlflow_server: MlflowServer) -> None:
        """Of experiments with half a megabyte of tags each, a page holds what fits into a reply, and the next goes on there."""
        tags = {f"tag-{number}": "x" * 5000 for number in range(100)}
        requests = [pb.CreateExperimentRequest(name=fresh_name(), tags=tags) for _ in range(8)]
        made = [(await experiments.create(request)).experiment_id for request in requests]
        first, token = await experiments.list(8)
        second, _ = await experiments.list(2, token)
        assert [len(first), len(second)] == [6, 2]
        assert [one.experiment_id for one in [*first, *second]] == made[::-1]
        for experiment_id in made:
            mlflow_server.client().delete_experiment(experiment_id)

    @pytest.mark.parametrize(
        "which", [{"experiment_id": "4711000"}, {"experiment_id": "9" * 40}, {"experiment_id": "no number"}, {"name": "nobody's"}]
    )
    async def test_an_unknown_experiment_is_not_found(self, experiments: Experiments, which: dict[str, str]) -> None:
        """By whatever id, even one that MLflow calls invalid, and by name. An id that is no number may be a name."""
        with refused("EXPERIMENT_NOT_FOUND") as error:
            await experiments.get(**which)
        assert ("by `name`" in error.value.remedy) == (which == {"experiment_id": "no number"})

    async def test_an_experiment_is_asked_for_in_one_way(self, experiments: Experiments) -> None:
        """Neither id nor name is as wrong as both."""
        for which in ({}, {"experiment_id": "0", "name": "Default"}):
            with refused("INVALID_FIELDS"):
                await experiments.get(**which)

    async def test_lists_are_newest_first_and_page_without_gaps(self, experiments: Experiments) -> None:
        """Pages of two hold what one page holds, in its order, and as many as are counted."""
        made = [(await experiments.create(pb.CreateExperimentRequest(name=fresh_name()))).experiment_id for _ in range(3)]
        everything, end = await experiments.list(1000)
        assert end == ""
        assert [experiment.experiment_id for experiment in everything[:3]] == made[::-1]
        assert await experiments.count() == len(everything)
        paged, token = await experiments.list(2)
        while token:
            page, token = await experiments.list(2, token)
            paged += page
        assert paged == everything

    async def test_a_page_token_from_elsewhere_is_refused(self, experiments: Experiments, experiment_id: str) -> None:
        """In each list that MLflow pages."""
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.list(2, "garbage")
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, page_token="garbage"))
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.metric_history(pb.GetMetricHistoryRequest(run_id="r", metric_key="m", page_token="garbage"))

    async def test_a_page_token_is_valid_for_its_list_alone(
        self, experiments: Experiments, models: Models, mlflow_server: MlflowServer, experiment_id: str
    ) -> None:
        """Another list, another experiment, another filter and another order refuse it, and so does a token of any length."""
        for number in range(2):
            mlflow_server.client().create_run(experiment_id, tags={"n": str(number)})
        other = (await experiments.create(pb.CreateExperimentRequest(name=fresh_name()))).experiment_id
        _, of_experiments = await experiments.list(1)
        _, of_runs = await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, page_size=1))
        for token in (of_experiments, "A" * 100_000):
            with refused("PAGE_TOKEN_INVALID"):
                await models.list(1, token)
            with refused("PAGE_TOKEN_INVALID"):
                await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, page_token=token))
        changes = ({"experiment_id": other}, {"order_by": "start_time ASC"}, {"filter": "tags.n = '1'"})
        for change in changes:
            with refused("PAGE_TOKEN_INVALID"):
                await experiments.list_runs(
                    pb.ListRunsRequest(**{"experiment_id": experiment_id, "page_token": of_runs, **change})  # type: ignore[arg-type]
                )
        same = pb.ListRunsRequest(experiment_id=experiment_id, page_size=1, page_token=of_runs)
        assert len((await experiments.list_runs(same))[0]) == 1
