"""URLs with passwords: what could be read in two ways is refused before any library reads it."""

import pytest
from pydantic import SecretStr, ValidationError

from tasks.settings import Settings
from tasks.settings.servers import is_database, is_url

SCHEMES = {
    "database_url": "postgresql",
    "database_direct_url": "postgresql",
    "redis_url": "redis",
    "celery_broker_url": "amqp",
}
# Each has the word that must be seen nowhere, and a character that ends or breaks a password in a URL.
PASSWORDS = [
    f"hush{odd}hush" for odd in ("%", "%zz", "%2", "%00", "@", ":", "/", "?", "#", " ", "[", "\n", "\0")
]


def secret_settings() -> set[str]:
    """The settings that are secrets."""
    return {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}


def test_every_secret_with_a_place_in_it_is_looked_at() -> None:
    """A new URL with a password needs the same check; what is a password alone is quoted by nobody."""
    assert {name for name in secret_settings() if name.endswith("url")} == set(SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_not_escaped_is_refused_and_not_quoted(name: str, password: str) -> None:
    """By the setting's name, at the start of whatever process."""
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, **{name: f"{SCHEMES[name]}://me:{password}@h.example:1/x"})  # type: ignore[arg-type]
    assert name in str(refused.value)
    assert "%25" in str(refused.value)
    for told in (str(refused.value), repr(refused.value)):
        assert "hush" not in told


@pytest.mark.parametrize("name", sorted(secret_settings()))
def test_no_error_about_the_settings_quotes_a_secret(name: str) -> None:
    """Whatever else is wrong with them."""
    secret = f"{SCHEMES[name]}://me:hush@h.example/x" if name in SCHEMES else "hush" * 4
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, **{name: secret, "lanes": "none"})  # type: ignore[arg-type]
    assert "hush" not in str(refused.value) + repr(refused.value)
    given = Settings(_env_file=None, **{name: secret})  # type: ignore[arg-type]
    assert "hush" not in str(given) + repr(given)
    assert isinstance(getattr(given, name), SecretStr)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://127.0.0.1:5432/sluice",
        "postgresql://me:p%40%25%2F@db.example/x?sslmode=disable",
        "postgresql://me:p@one.example:5432,two.example:5433/x?target_session_attrs=read-write",
        "postgresql://me@/x?host=%2Fvar%2Frun",
        "postgresql:///x",
        "redis://:word@10.0.0.7:6379/0",
        "rediss://me:word@[::1]:6379/0?timeout=3",
        "amqps://me:word@rabbit_1.example:5671/%2Fhost",
        "amqp://me:word@host//",
    ],
)
def test_what_is_escaped_is_taken(url: str) -> None:
    """Several hosts, a socket, IPv6 and a virtual host."""
    assert is_url(url)


def test_a_database_may_be_named_by_libpqs_pairs() -> None:
    """A URL that libpq cannot read is refused, and libpq's own words are not shown."""
    assert is_database("host=db.example password='a b%' dbname=x")
    assert not is_database("host=db.example password=a hush")
    assert not is_database("hush@nowhere")
    assert not is_database("")
    assert not is_url("host=db.example")
