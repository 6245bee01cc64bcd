"""What can be configured, from the environment (`ML_PLATFORM_SERVER__PORT=50052`), read once at the edge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]
_EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)
PathOrNone = Annotated[Path | None, _EmptyIsNone]
PortOrNone = Annotated[int | None, _EmptyIsNone]
# What the registry takes for an alias, but for its case: it keeps "latest" and "v1" for itself.
_ALIAS = re.compile(r"(?!v\d+$|latest$)[a-z][a-z0-9-]{0,62}")
WebAddressOrEmpty = Annotated[str, Field(pattern=r"^((?i:https?)://\S+)?$")]

SERVICES = ("experiments", "models", "deployments", "training", "jobs", "features", "predictions", "platform")
"""What a server can offer; health and reflection come with all of them."""


class ServerSettings(BaseModel):
    """The gRPC server itself."""

    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535, description="0 lets the system choose.")
    tls_certificate: PathOrNone = Field(default=None, description="PEM file: the server's certificate, then its issuers'.")
    tls_key: PathOrNone = Field(default=None, description="PEM file: the certificate's private key.")
    tls_client_ca: PathOrNone = Field(
        default=None, description="PEM file: authorities for clients' certificates, which are required then."
    )
    allow_plaintext: bool = Field(default=False, description="Offer plaintext even where other machines reach the address.")
    default_deadline: Seconds = Field(default=30.0, description="For calls that bring no deadline.")
    shutdown_grace: float = Field(default=10.0, ge=0, description="How long calls may go on after SIGTERM.")
    max_message_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    max_large_request_bytes: int = Field(
        default=64 * 1024 * 1024, gt=0, description="Of requests above 64 KiB that are inflated, parsed and answered at once."
    )
    max_streams_per_connection: int = Field(default=256, gt=0, description="Calls and watches of one connection at once.")
    max_connection_age: float = Field(
        default=1800.0,
        ge=0,
        description="Seconds after which a client is asked to connect anew; what runs on the connection goes on. 0 for never.",
    )
    max_connection_idle: Seconds = Field(default=300.0, description="Seconds without a call after which a connection is closed.")
    max_predictions_in_flight: int = Field(default=2048, gt=0, description="Unary predictions at once; more are refused.")
    max_predictions_when_busy: int = Field(default=256, gt=0, description="The same while calls queue up.")
    max_control_in_flight: int = Field(default=1024, gt=0, description="Other unary calls at once; more are refused.")
    max_queue_seconds: Seconds = Field(default=0.5, description="How long calls may queue up before fewer are let in.")
    health_check_interval: Seconds = Field(default=5.0, description="Between two health probes of a backend.")
    workers: int = Field(default=1, ge=1, le=256, description="Processes that share the port.")
    worker_timeout: Seconds = Field(
        default=10.0, description="Without a sign of life from a worker's event loop, after which it is replaced."
    )
    batch_scheduling: bool = Field(default=True, description="Keep threads from interrupting each other; see docs/adr/0006.")
    services: str = Field(default="all", description=f"Some of {', '.join(SERVICES)}, with commas between them; or all.")
    environments: str = Field(
        default="staging,production",
        description="Where versions can be deployed to: names, with commas between them. Each becomes an alias in the registry.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Where metrics are served; they are not meant for strangers.")
    metrics_port: PortOrNone = Field(default=None, ge=0, le=65535, description="Empty for no metrics; 0 lets the system choose.")

    @property
    def offered(self) -> frozenset[str]:
        """The services to offer, by name."""
        return frozenset(SERVICES if self.services == "all" else _names(self.services))

    @property
    def environment_names(self) -> list[str]:
        """The environments, by name."""
        return _names(self.environments)

    @field_validator("environments")
    @classmethod
    def _aliases(cls, environments: str) -> str:
        names = _names(environments)
        wrong = [name for name in names if not _ALIAS.fullmatch(name)]
        if wrong or not names:
            problem = f"{', '.join(map(repr, wrong))} cannot be an environment's name" if wrong else "no environment is named"
            raise ValueError(f"{problem}; it has lower-case letters, digits and '-', a letter first, and is not 'latest' or 'v1'")
        return environments

    @field_validator("host")
    @classmethod
    def _named(cls, host: str) -> str:
        if not host.strip() or host == "*":
            raise ValueError("a name or an address of this machine is wanted; 0.0.0.0 stands for all of them")
        return host

    @field_validator("services")
    @classmethod
    def _known(cls, services: str) -> str:
        names = _names(services)
        unknown = sorted(set(names) - set(SERVICES))
        if services != "all" and (unknown or not names):
            problem = f"{', '.join(map(repr, unknown))} is no service" if unknown else "no service is named"
            raise ValueError(f"{problem}; there are {', '.join(SERVICES)}, and 'all' for all of them")
        return services


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class StoreSettings(BaseModel):
    """The platform's own database."""

    url: str = Field(default="sqlite+aiosqlite:///ml_platform.db", description="An SQLAlchemy URL with an asyncio driver.")
    key_pepper: SecretStr = Field(default=SecretStr(""), description="Secret that API keys are hashed with. Required to serve.")
    key_pepper_file: PathOrNone = Field(default=None, description="A file with that secret; read where key_pepper is empty.")

    @property
    def pepper(self) -> str:
        """The secret, from wherever it is configured; empty where it is not.

        Raises:
            ValueError: the file cannot be read.
        """
        if self.key_pepper.get_secret_value() or self.key_pepper_file is None:
            return self.key_pepper.get_secret_value()
        try:
            return self.key_pepper_file.read_text().strip()
        except OSError as error:
            raise ValueError(f"ML_PLATFORM_STORE__KEY_PEPPER_FILE cannot be read: {error}") from None


class MlflowSettings(BaseModel):
    """MLflow: experiments, runs, registry."""

    tracking_uri: str = "http://127.0.0.1:5000"
    ui_url: WebAddressOrEmpty = Field(
        default="", description="Where browsers reach MLflow's pages, for links; empty means the tracking_uri if it is http(s)."
    )
    timeout: Seconds = Field(default=10.0, description="For one HTTP request.")
    threads: int = Field(default=8, gt=0)


class FeastSettings(BaseModel):
    """Feast: features."""

    config_path: Path = Field(default=Path("feature_store.yaml"), description="The feature_store.yaml of the project to serve.")
    timeout: Seconds = 10.0
    threads: int = Field(default=8, gt=0)
    registry_ttl: Seconds = Field(
        default=30.0,
        description="How old the cached registry may get. Reading it takes a tenth of a second of the processor from every call.",
    )
    source_roots: tuple[str, ...] = Field(
        default=(),
        description="Where Parquet sources of registered feature views may lie, a JSON list: folders (links are followed) and "
        "prefixes of URLs such as s3://bucket/features. Empty means the folder of the feature_store.yaml.",
    )


class AirflowSettings(BaseModel):
    """Airflow: pipelines."""

    api_url: str = "http://127.0.0.1:8080"
    ui_url: WebAddressOrEmpty = Field(
        default="", description="Where browsers reach Airflow's pages, for links; empty means the api_url."
    )
    username: str = ""
    password: SecretStr = Field(default=SecretStr(""), description="Empty asks for a token without credentials; local use only.")
    timeout: Seconds = Field(default=10.0, description="For one HTTP request.")
    threads: int = Field(default=8, gt=0)
    training_pipeline: str = Field(default="", description="The DAG that trains when a request names none.")
    training_pipelines: str = Field(
        default="*",
        description="The DAGs that training jobs may run: names or patterns (fraud_*), with commas; never the platform's own.",
    )
    deployment_pipeline: str = "model_deployment"
    materialization_pipeline: str = "feature_materialization"


class BentomlSettings(BaseModel):
    """BentoML: models that do not run in this process."""

    url: str = "http://127.0.0.1:3000"
    timeout: Seconds = 10.0
    connections: int = Field(default=64, gt=0)
    requests_per_version: int = Field(default=4, gt=0, description="Of one model version at once, from this process.")


class JobSettings(BaseModel):
    """Watching jobs."""

    poll_interval: Seconds = Field(default=1.0, description="Between two looks at a watched job.")
    heartbeat_interval: Seconds = Field(default=10.0, description="Silence after which a watcher gets a heartbeat.")
    reconcile_interval: Seconds = Field(default=1.0, description="Between two polls of deployments in progress.")
    deployment_timeout: Seconds = Field(
        default=7200.0, description="After which a deployment whose checks have not ended fails, their waiting included."
    )
    max_watch_duration: Seconds = Field(default=3600.0, description="After which a watcher must come back.")


class ServingSettings(BaseModel):
    """Predictions."""

    refresh_interval: Seconds = Field(default=1.0, description="Between two looks at the deployments' generation.")
    model_cache: Path = Field(default=Path(".ml_platform_models"), description="Where models are downloaded to.")
    model_cache_bytes: int = Field(default=20 * 1024**3, gt=0, description="What is in use stays, even beyond that.")
    model_cache_age: Seconds = Field(default=30 * 86400.0, description="How long a model stays there that nothing uses.")
    threads: int = Field(default=2, gt=0, description="For inference in this process.")
    max_batch_size: int = Field(default=256, gt=0, description="Calls of Predict that are answered together, at most.")
    max_concurrent_batches: int = Field(
        default=4, gt=0, description="Of one model version in this process; the next rows gather."
    )
    bentoml_max_concurrent_batches: int = Field(default=2, gt=0, description="The same for a version that BentoML executes.")
    max_concurrent_slow_batches: int = Field(
        default=4, gt=0, description="The same while batches take long: a slow store, a big model."
    )
    max_queue_size: int = Field(default=2048, gt=0, description="Calls that wait for a batch of one version; more are refused.")
    rows_in_flight: int = Field(
        default=200_000, gt=0, description="Rows of batches, tensors and streams that are worked on at once; more are refused."
    )
    bytes_in_flight: int = Field(default=64 * 1024**2, gt=0, description="The same in bytes, as they came over the wire.")
    max_inflight_per_stream: int = Field(default=256, gt=0, description="Requests of one stream that may be without an answer.")


class LogSettings(BaseModel):
    """Logs, as JSON lines on standard error."""

    level: str = "INFO"
    format: Literal["json", "text"] = "json"


class TracingSettings(BaseModel):
    """OpenTelemetry traces, which need the extra `tracing`."""

    endpoint: str = Field(default="", description="A collector that takes OTLP over gRPC: http://host:4317. Empty for no traces.")
    sample_ratio: float = Field(default=0.01, ge=0, le=1, description="The share of calls traced where the caller does not say.")
    service_name: str = "ml-platform-server"


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(env_prefix="ML_PLATFORM_", env_nested_delimiter="__", extra="ignore")

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    mlflow: MlflowSettings = MlflowSettings()
    feast: FeastSettings = FeastSettings()
    airflow: AirflowSettings = AirflowSettings()
    bentoml: BentomlSettings = BentomlSettings()
    jobs: JobSettings = JobSettings()
    serving: ServingSettings = ServingSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
