"""The settings as a table, made from their declaration: `sluice settings` and `docs/settings.md`."""

from pydantic import SecretStr

from tasks.settings import Settings

HEADER = """# Settings

Every process reads its settings from the environment; what is not there comes from the file that
`SLUICE_ENV_FILE` names (`.local/env` by default, which `make up` writes), then from the folder that
`SLUICE_SECRETS_DIR` names, where a file `redis_url` holds the value of `REDIS_URL`, and else from the
defaults.
`sluice settings` prints this page.

| variable | default | meaning |
|---|---|---|
"""


def markdown() -> str:
    """All settings with their defaults, never with the values in force, as a Markdown page."""
    rows = [
        f"| `{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEADER + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in {None, ""} else f"`{value}`"
