"""Settings of alerts: how they are judged, published and sent to channels."""

from ipaddress import ip_network
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, field_validator

# Apprise's plugins that connect in threads or by libraries of their own, or speak to this machine.
_PAST_THE_GUARD = {
    *("mqtt", "mqtts", "xmpp", "xmpps"),
    *("dbus", "kde", "qt", "glib", "gio", "gnome", "macosx", "windows", "syslog"),
}


class Alerts(BaseModel):
    """Rules, changes of alerts on their way, users' requests, and channels."""

    part_alert_bytes: int = Field(
        524_288,
        ge=1,
        description="At this many bytes of one user's alert changes (about 1 kB each) a part judges no more"
        " of the user's readings; they go with the next batches, and other users' do not wait.",
    )
    outbox_max_entries: int = Field(
        50_000,
        ge=1,
        description="Undelivered alert changes above which no readings are judged until some are delivered.",
    )
    outbox_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="At this many bytes of undelivered alert changes no readings are judged until some are"
        " delivered. They are in the memory of Redis.",
    )
    outbox_max_user_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="At this many bytes of one user's undelivered alert changes no readings of that user are"
        " judged until some are delivered.",
    )

    open_alerts_per_user: int = Field(
        100_000,
        ge=1,
        description="Alerts that a user may have open at the same time; one more becomes a dead letter"
        " (`TooManyAlerts`), and is triggered later if its rule is still violated when there is room.",
    )
    absence_grace_seconds: int = Field(
        30,
        ge=0,
        description="Time that devices have to return after an outage of the gateway before silence counts.",
    )
    absent_never_seen: bool = Field(
        False,
        description="Absence rules without a `key` are also about devices that have never sent anything:"
        " those with an account, and those that a rule names in `devices`. Silence counts from the time of"
        " the account, or of the user's rules where that is later.",
    )
    retained_alert_states: Literal["off", "on", "clear"] = Field(
        "off",
        description="`on`: the MQTT broker keeps the present state of each open alert on"
        " `users/{user}/alerts/state/{device}/{rule}` for who subscribes later. `clear`: what it keeps of an"
        " alert goes with the alert's next change.",
    )

    rules_poll_seconds: float = Field(
        5.0,
        gt=0,
        description="Interval at which the table of rules is checked for changes without a notification.",
    )
    request_patience_seconds: float = Field(
        300.0,
        ge=30,
        description="Longest wait of a user's requests for servers that are away; then the answer"
        " refuses them.",
    )
    requests_per_user: int = Field(
        300,
        ge=1,
        description="Maximum number of a user's requests that wait for their answers; more are refused.",
    )

    channel_schemes: str = Field(
        "https,mailto,slack,workflows,discord,tgram,wxteams,gchat,zulip,pover,ntfys,gotifys,mmosts,matrixs,"
        "rockets,pagerduty,opsgenie",
        pattern=r"^[a-z][a-z0-9+]*( ?, ?[a-z][a-z0-9+]*)*$",
        description="Schemes that channels of alerts may have: `https` and `http` for webhooks, `mailto` for"
        " mail, all others by Apprise's names. Not those whose connections cannot be judged by their address,"
        " such as `mqtts` and `xmpps`.",
    )
    channel_allowed_networks: str = Field(
        "",
        description="Networks that webhooks and Apprise may reach although they are not public,"
        " `10.1.0.0/16,…`. All other private, loopback, link-local and multicast addresses are refused"
        " at each connection.",
    )
    channel_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=20,
        description="Longest wait for one step of sending to a channel; twice that for all of them together.",
    )
    channel_attempts: int = Field(
        15,
        ge=1,
        le=100,
        description="Attempts to send one change to a channel, with pauses from 2 s to an hour; then it has"
        " failed.",
    )
    channel_patience_hours: float = Field(
        24.0, gt=0, description="A change that could not be sent for this long has failed."
    )
    channel_messages_per_minute: float = Field(
        300.0,
        gt=0,
        description="Attempts per minute of all of one user's channels in the long run; as many may come at"
        " once.",
    )
    channel_retention_days: int = Field(
        30, ge=1, description="Time that the table `channel_deliveries` keeps what was sent or has failed."
    )

    smtp_host: str | None = Field(None, description="Mail server of the channels; without it none is sent.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the mail server is reached: `tls` from the first byte, mostly at port 465.",
    )
    smtp_username: str | None = Field(None, description="Account at the mail server, if it needs one.")
    smtp_password: SecretStr | None = Field(None, description="Its password.")
    smtp_from: str | None = Field(
        None, pattern=r"^[^\s@]+@[^\s@]+$", description="Address from which the mails come."
    )

    @field_validator("channel_schemes")
    @classmethod
    def _are_guarded(cls, schemes: str) -> str:
        listed = {one.strip() for one in schemes.split(",")}
        for scheme in sorted(listed & _PAST_THE_GUARD):
            raise ValueError(
                f"must not have {scheme}: what Apprise does for it goes past the check of addresses, by"
                " threads or libraries of its own"
            )
        return schemes

    @field_validator("channel_allowed_networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        for one in networks.split(","):
            if one.strip():
                ip_network(one.strip())
        return networks
