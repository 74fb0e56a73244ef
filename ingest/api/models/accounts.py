"""The requests and answers of the routes of accounts."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from ingest.api.inputs import Storable


class NewAccounts(BaseModel):
    """Accounts to be made: of these devices, or without any the account of the user's own programs."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user: Storable = Field(min_length=1, max_length=128)
    devices: list[Storable] = Field(default=[], max_length=10_000)


class Credential(BaseModel):
    """The login of an account; the password is shown only this once."""

    username: str
    password: str


class Credentials(BaseModel):
    """One for each account, in the order of the request."""

    accounts: list[Credential]


class Account(BaseModel):
    """An MQTT account, without secrets."""

    username: str
    kind: str
    user_id: str | None
    device_id: str | None
    enabled: bool
    created_at: datetime
    rotated_at: datetime


class Accounts(BaseModel):
    """A page of accounts."""

    accounts: list[Account]
    next: str | None
