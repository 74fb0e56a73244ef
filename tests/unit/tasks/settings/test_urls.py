"""URLs with passwords: what could be read in two ways is refused before any library reads it."""

import pytest
from pydantic import SecretStr, ValidationError

from tasks.settings import Settings
from tasks.settings.servers import Sentinels, is_database, is_url, sentinels

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


def test_sentinels_are_named_in_one_url_with_the_name_of_the_master() -> None:
    """The login is that of the servers; ports and the database may be left out."""
    assert sentinels("redis+sentinel://me:p%40%2F@s1.example:26380,s2.example,[::1]:26381/3?master=main") == (
        Sentinels((("s1.example", 26380), ("s2.example", 26379), ("::1", 26381)), "main", 3, "me", "p@/")
    )
    assert sentinels("rediss+sentinel://s1.example?master=main") == (
        Sentinels((("s1.example", 26379),), "main", 0, None, None)
    )
    assert sentinels("redis+sentinel://:word@s1.example/?master=a%20b") == (
        Sentinels((("s1.example", 26379),), "a b", 0, None, "word")
    )
    assert sentinels("redis://me:word@r.example:6379/0") is None
    assert sentinels("rediss://me:word@[::1]:6379/0?timeout=3") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://me:hush@s1:26379,s2:26379/0", "must end with [?]master=NAME"),
        ("redis+sentinel://me:hush@s1:26379/0?master=", "must end with [?]master=NAME"),
        ("redis+sentinel://me:hush@s1:26379/0?master=a&master=b", "must end with [?]master=NAME"),
        ("redis+sentinel://me:hush@s1:26379/0?master=a&timeout=3", "must end with [?]master=NAME"),
        ("redis+sentinel://me:hush@s1:26379,,s2:26379/0?master=a", "no host between two commas"),
        ("redis+sentinel://me:hush@/0?master=a", "no host between two commas, or none"),
        ("redis+sentinel://me:hush@s1:0/0?master=a", "at least 1"),
        ("redis+sentinel://me:hush@s1:99999/0?master=a", "at most 65535"),
        ("redis+sentinel://me:hush@s1:26379/main?master=a", "the database is a number"),
        ("unix+sentinel://me:hush@s1:26379/0?master=a", "must be redis.sentinel://"),
        ("sentinel://me:hush@s1:26379/0", "without a scheme before each"),
        ("sentinel://:hush@s1:26379;sentinel://:hush@s2:26379", "without a scheme before each"),
        ("redis://me:hush@r1:6379,r2:6379/0", "several servers"),
        ("unix://me:hush@/run/redis.sock", "must begin with redis://"),
    ],
)
def test_a_malformed_url_of_redis_says_what_it_must_be(url: str, said: str) -> None:
    """By the setting's name, and without the password."""
    with pytest.raises(ValidationError, match=said) as refused:
        Settings(_env_file=None, redis_url=SecretStr(url))
    assert "redis_url" in str(refused.value)
    assert "hush" not in str(refused.value) + repr(refused.value)


def test_a_database_may_be_named_by_libpqs_pairs() -> None:
    """A URL that libpq cannot read is refused, and libpq's own words are not shown."""
    assert is_database("host=db.example password='a b%' dbname=x")
    assert not is_database("host=db.example password=a hush")
    assert not is_database("hush@nowhere")
    assert not is_database("")
    assert not is_url("host=db.example")


@pytest.mark.parametrize("name", ["database_url", "database_direct_url"])
def test_several_databases_say_that_the_one_is_meant_that_takes_writes(name: str) -> None:
    """Otherwise a client stays with the first that answers, and every write to a standby is refused."""
    for url in (
        "postgresql://me:hush@one.example,two.example:5433/x",
        "postgresql://me:hush@/x?host=one.example,two.example",
        "postgresql://me:hush@one.example,two.example/x?target_session_attrs=any",
        "host=one.example,two.example user=me password=hush",
    ):
        with pytest.raises(ValidationError, match="target_session_attrs=read-write") as refused:
            Settings(_env_file=None, **{name: url})  # type: ignore[arg-type]
        assert "hush" not in str(refused.value)
    for url in (
        "postgresql://me:hush@one.example,two.example:5433/x?target_session_attrs=read-write",
        "host=one.example,two.example target_session_attrs=primary",
        "postgresql://me:hu,sh@one.example/x",
    ):
        Settings(_env_file=None, **{name: url})  # type: ignore[arg-type]
