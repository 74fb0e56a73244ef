"""The settings of every process: one typed object, read from the environment."""

import os
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.settings.alerts import Alerts
from tasks.settings.pipeline import Pipeline
from tasks.settings.servers import Servers


class Processes(BaseModel):
    """How processes end, what they serve at which port, their traces and logs."""

    stop_grace_seconds: float = Field(
        20.0, ge=0, description="Time that a stopping process has to finish what it has begun."
    )
    celery_soft_shutdown_seconds: float = Field(
        15.0, ge=0, description="Time that a stopping worker gives its tasks to finish."
    )
    worker_deaf_seconds: float = Field(
        15.0,
        ge=5,
        description="A worker that takes no work for this long, though there is some and it is free, ends.",
    )

    flower_port: int = Field(5555, ge=1, le=65535, description="Port of the Flower page.")
    flower_basic_auth: SecretStr | None = Field(
        None, description="Login of the Flower page, `name:password`."
    )

    web_host: str = Field(
        "127.0.0.1", description="Address on which `web` serves the HTTP API and the console."
    )
    web_port: int = Field(8088, ge=1, le=65535, description="Its port.")
    web_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="The operator's token of the HTTP API, of at least 16 characters; without it only tenants"
        " have tokens (`sluice tokens`).",
    )
    web_requests_per_second: float = Field(
        20.0,
        gt=0,
        description="Requests per second of one token in the long run; ten seconds' worth may come at once.",
    )
    web_trusted_proxies: str = Field(
        "",
        description="Addresses or networks of reverse proxies, `10.0.0.5,192.168.7.0/24`: of a request from"
        " one the address of the client is the last of `X-Forwarded-For` that is not a proxy's.",
    )
    web_secure_cookies: bool = Field(
        False,
        description="Cookies of the console only over TLS: true where people reach `web` by a proxy with TLS"
        " alone. A request that is known to have come by TLS gets such a cookie in any case.",
    )
    web_connections: int = Field(
        8, ge=1, description="Database connections of `web`; a request without one waits, then gets 503."
    )
    web_statement_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest time of one query of the HTTP API; then 504.",
    )

    metrics_host: str = Field(
        "0.0.0.0",  # noqa: S104 - where Prometheus and the probes of a container come from
        description="Address on which each process serves its metrics and health.",
    )
    process_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:{}_-]+$",
        description="Host at which `sluice status` asks a process; `{process}` in it is the process's name.",
    )
    metrics_port: int = Field(
        9000, ge=0, le=65535, description="Port of the worker's metrics and health; 0 opens none, as below."
    )
    gateway_metrics_port: int = Field(9001, ge=0, le=65535, description="The same for the gateway.")
    bridge_metrics_port: int = Field(9002, ge=0, le=65535, description="The same for the bridge.")
    control_metrics_port: int = Field(9003, ge=0, le=65535, description="The same for the control process.")
    notify_metrics_port: int = Field(
        9005, ge=0, le=65535, description="The same for a worker of the queue `notify` alone."
    )
    beat_metrics_port: int = Field(9004, ge=0, le=65535, description="The same for beat.")
    web_metrics_port: int = Field(9006, ge=0, le=65535, description="The same for `web`.")

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="Collector of traces (OTLP by HTTP), `http://collector:4318`; without it tracing is off.",
    )
    trace_sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of messages that are traced; dead letters, changes of alerts and messages that"
        " their sender sampled always are.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )

    @field_validator("web_trusted_proxies")
    @classmethod
    def _are_proxies(cls, value: str) -> str:
        named = [one.strip() for one in value.split(",") if one.strip()]
        for one in named:
            try:
                ip_network(one)
            except ValueError:
                raise ValueError(
                    "must be IP addresses or networks, with commas between them: 10.0.0.5,192.168.7.0/24"
                ) from None
        return ",".join(named)


class Settings(Servers, Pipeline, Alerts, Processes, BaseSettings):
    """All settings; each field is set by the environment variable of its name in capitals.

    The environment wins over the file named by `SLUICE_ENV_FILE` (default `.local/env`, which
    `make up` writes), that over the files in the folder named by `SLUICE_SECRETS_DIR`, each named like
    its field, and that over the defaults here.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


def env_file() -> Path | None:
    """The file that settings are read from, besides the environment.

    It is the one that SLUICE_ENV_FILE names, otherwise the local stack's `.local/env` of the checkout that
    the working directory is in; None if there is neither.
    """
    if named := os.environ.get("SLUICE_ENV_FILE"):
        return Path(named)
    here = Path.cwd()
    checkout = next(
        (folder for folder in (here, *here.parents) if (folder / "celeryconfig.py").exists()), here
    )
    found = checkout / ".local" / "env"
    return found if found.exists() else None


@lru_cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises `pydantic.ValidationError` naming each variable that is wrong.
    """
    return Settings(
        _env_file=env_file(),
        _secrets_dir=os.environ.get("SLUICE_SECRETS_DIR"),
    )
