"""Settings of a message's way from the gateway to its row."""

from typing import Annotated

from pydantic import BaseModel, Field


class Pipeline(BaseModel):
    """Batches, limits, dead letters, and how long rows are kept."""

    domains: str = Field(
        "tasks.telemetry",
        description="Modules of the domains, `module,…`; rules without a domain apply to the first.",
    )

    lanes: int = Field(
        2,
        ge=1,
        description="Lanes of each domain in one bridge; each has at most one batch in flight."
        " Fewer are quicker on few cores; more use more of them.",
    )
    batch_max_messages: int = Field(16_000, ge=1, description="Maximum number of messages in a batch.")
    batch_max_bytes: int = Field(
        8_388_608, ge=1024, description="Maximum number of payload bytes in a batch."
    )
    batch_part_messages: int = Field(
        1000, ge=1, description="A batch gets one more `process` part for each of this many messages."
    )
    batch_max_parts: int = Field(2, ge=1, description="Maximum number of `process` parts of a batch.")
    batch_linger_ms: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Longest wait of a message for others, in Kafka; less is quicker and costs more CPU.",
    )
    lease_seconds: int = Field(
        10,
        ge=2,
        description="A batch without a sign of life for this long is sent again (longer at each retry).",
    )
    process_cpu_seconds: float = Field(
        10.0,
        gt=0,
        description="CPU time that `process` may use for its part of a batch before it counts as hanging and"
        " is killed; a message that does so repeatedly becomes a dead letter.",
    )
    rebalance_wait_seconds: float = Field(
        5.0, ge=0, description="Time that a revoked lane waits for its batch before it drops it."
    )

    payload_max_bytes: int = Field(
        262_144,
        ge=64,
        description="A larger payload becomes a dead letter. One above the broker's packet limit (1 MB)"
        " never arrives: the broker ends the connection.",
    )
    payload_max_depth: int = Field(32, ge=1, le=200, description="A payload nested deeper is refused.")
    store_wait_seconds: int = Field(
        120,
        ge=1,
        description="Time that `store` waits for a database that is away before it hands its batch back.",
    )

    dead_letter_retention_days: int = Field(
        30,
        ge=1,
        description="Retention of the dead letters' topics when `sluice topics` creates them.",
    )
    rejected_notices: bool = Field(
        False,
        description="Whether a device gets a notice on `users/{user}/devices/{device}/rejected` when Sluice"
        " refuses a message of the device (docs/devices.md).",
    )
    dead_letter_share_limit: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of dead letters among all messages above which an alarm is raised; 1 is never.",
    )
    dead_letter_share_window_seconds: float = Field(300.0, ge=10, description="The window of that share.")

    compress_after_days: int = Field(
        7, ge=0, description="Rows older than this are compressed where the server can; 0 never compresses."
    )
    retention_days: int = Field(
        0,
        ge=0,
        description="Rows older than this are removed, by whole days (UTC); 0 keeps them forever."
        " `sluice migrate` writes it into the table `retention`, by which beat has it done.",
    )
    retention_days_of: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description='The same for single domains, as JSON by their names: `{"crates": 30}`.',
    )
    rollups: bool = Field(
        False,
        description="Whether the numeric columns are rolled up by hour and by day (docs/retention.md).",
    )
    rollup_hourly_days: int = Field(
        400, ge=0, description="Rollups by the hour are kept this long; 0 keeps them forever."
    )
    rollup_daily_days: int = Field(
        3660, ge=0, description="Rollups by the day are kept this long; 0 keeps them forever."
    )

    user_messages_per_second: float = Field(
        10_000,
        ge=0,
        description="Messages per second that a user's devices may send through one gateway in the long run;"
        " more become dead letters (`RateLimited`). 0 means unlimited.",
    )
    user_bytes_per_second: float = Field(
        20_000_000, ge=0, description="The same for their payloads' bytes. 0 means unlimited."
    )
    user_burst_seconds: float = Field(
        300,
        ge=1,
        description="Seconds' worth of both that may come at once, as after an outage.",
    )
    devices_per_user: int = Field(
        100_000,
        ge=1,
        description="Maximum number of devices of one user (`sluice provision device`).",
    )

    def retention_days_in(self, domain: str) -> int:
        """How long a domain's rows are kept; 0 is forever."""
        return self.retention_days_of.get(domain, self.retention_days)
