"""Deployments of model versions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ml_platform import rpcs
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.transport import sleep
from ml_platform.errors import DeadlineExceeded, JobFailed
from ml_platform.records import Listing
from ml_platform.resources.deployments import Deployment, read_deployment, to_environment, to_state
from ml_platform.resources.policies import to_policy
from ml_platform.v1 import deployments_pb2 as pb
from ml_platform.values import build, to_version

# A deployment takes some ten seconds; this is how often a waiting caller looks.
LOOK_INTERVAL = 0.5


class AsyncDeployments:
    """The part of the client that deals with deployments."""

    _invoker: AsyncInvoker

    async def deploy_model(
        self,
        model_name: str,
        version: int,
        environment: str,
        reason: str | None = None,
        wait: bool = False,
        *,
        on_missing: str | None = None,
        on_stale: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # spans several calls
        request_id: str | None = None,
    ) -> Deployment:
        """Deploy a model version. A job checks it first; only then does traffic move, and the version before it is archived.

        Args:
            model_name: the registered model's name.
            version: the version's number.
            environment: "staging" or "production".
            reason: why, for the history.
            wait: whether to wait until traffic has moved.
            on_missing: what its predictions do when the feature store has no value: "null_or_fail" (null where the model takes
                null, else an error; so it is if nothing is said), "fail", "default" (use the value in `defaults`), or "proceed"
                (null, and name the feature in the prediction's `degraded_features`).
            on_stale: what they do when a value is older than its view allows: "use" (so it is if nothing is said), "fail",
                "as_missing", or "proceed" (use it, and name the feature).
            defaults: the values for `on_missing="default"`, by the model's column.
            timeout: seconds to wait at most; None for as long as it takes.
            request_id: makes a repeat of this call harmless.

        Returns:
            The deployment, with the status "deployment_initiated", or "active" if it was waited for.

        Raises:
            InvalidArgument: there is no such environment, or a default is of no column that features supply or not of its type.
            NotFound: there is no such model or version.
            FailedPrecondition: another deployment is under way, or the model has no signature or no files.
            JobFailed: the version did not pass its checks (only with `wait`).

        Example:
            >>> deployment = await platform.deploy_model("fraud", 2, "staging", reason="better recall", wait=True)
            >>> deployment.state
            'active'
            >>> await platform.deploy_model("fraud", 2, "production", defaults={"total_transactions": 0})
        """
        request = build(
            pb.DeployModelRequest,
            model_name=model_name,
            version=to_version(version, "version"),
            environment=to_environment(environment),
            reason=reason,
            feature_policy=to_policy(on_missing, on_stale, defaults),
            request_id=request_id,
        )
        started = (await self._invoker.call(rpcs.DEPLOY_MODEL, request)).deployment
        if wait:
            return await self.wait_for_deployment(started.deployment_id, timeout=timeout)
        return read_deployment(started, status="deployment_initiated")

    async def wait_for_deployment(self, deployment_id: str, *, timeout: float | None = None) -> Deployment:  # noqa: ASYNC109  # spans several calls
        """Wait until a deployment has come to its end.

        Raises:
            JobFailed: the version did not pass its checks; the error says why.
            DeadlineExceeded: the time ran out. The deployment goes on.

        Example:
            >>> await platform.wait_for_deployment(deployment.deployment_id, timeout=120)
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (deployment := await self.get_deployment(deployment_id)).in_progress:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"Deployment {deployment_id} was still in progress after {timeout:g} seconds.",
                    remedy="The deployment goes on. Wait again, or for longer.",
                )
            await sleep(LOOK_INTERVAL)
        if deployment.state == "failed":
            raise JobFailed(
                f"Deployment {deployment_id} ({deployment.model_name} version {deployment.version}) failed: {deployment.message}",
                remedy=f"Traffic stayed where it was. Look at job {deployment.job_id!r}.",
            )
        return deployment

    async def get_deployment(self, deployment_id: str) -> Deployment:
        """Look up a deployment.

        Raises:
            NotFound: there is no such deployment.

        Example:
            >>> (await platform.get_deployment("d-17")).state
            'active'
        """
        request = build(pb.GetDeploymentRequest, deployment_id=deployment_id)
        return read_deployment((await self._invoker.call(rpcs.GET_DEPLOYMENT, request)).deployment)

    async def list_deployments(
        self,
        model_name: str | None = None,
        environment: str | None = None,
        *,
        state: str | None = None,
        limit: int | None = None,
    ) -> Listing[Deployment]:
        """The history of deployments, newest first: who moved which version where, when and why.

        Args:
            model_name: only deployments of this model.
            environment: only deployments to "staging" or "production".
            state: only deployments that are "in_progress", "active", "failed" or "archived".
            limit: how many at most; None for all.

        Example:
            >>> [(d.version, d.actor, d.reason) for d in await platform.list_deployments(model_name="fraud")]
            [(2, 'ada', 'better recall'), (1, 'ada', 'first try')]
        """
        request = build(
            pb.ListDeploymentsRequest,
            model_name=model_name,
            environment=None if environment is None else to_environment(environment),
            state=None if state is None else to_state(state),
        )
        return await self._invoker.collect(
            rpcs.LIST_DEPLOYMENTS, request, lambda page: page.deployments, read_deployment, limit=limit
        )
