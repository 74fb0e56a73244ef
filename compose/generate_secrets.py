"""Makes every password and certificate of the Compose stack, as files in `compose/secrets`.

`python3 -m compose.generate_secrets` needs nothing but Python and openssl. Existing files are kept, so it
may be run again. Data that exist have the old passwords: `--renew` makes new ones and keeps the old in a
folder `before-N`, and docs/deploy.md has how the servers learn them.
"""

import argparse
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "secrets"
DAYS = 825

# Redpanda keeps this one itself; docs/deploy.md says how it learns it.
KAFKA_LOGIN = "kafka_sasl_password"

PASSWORDS = (
    "postgres_password",
    "database_owner_password",
    "database_writer_password",
    "database_emqx_password",
    "database_reader_password",
    "database_web_password",
    "redis_password",
    "redis_default_password",
    "mqtt_password",
    "mqtt_vector_password",
    "emqx_dashboard_password",
    "emqx_cookie",
    KAFKA_LOGIN,
    "flower_password",
    "web_token",
    "grafana_admin_password",
)
RENEWED = tuple(name for name in PASSWORDS if name != KAFKA_LOGIN)

# Client ids at the broker are derived from it, so it must outlive the password that it is at first.
SESSIONS = "mqtt_session_secret"

# Secrets of other systems, which cannot be made here: empty until the operator fills them (docs/oncall.md).
OF_OTHERS = ("alertmanager_webhook_url", "alertmanager_mail_password")

Word = Callable[[str], str]

# Files that are made of passwords. The names of those without a dot are settings.
DERIVED: dict[str, Callable[[Word], str]] = {
    "database_url": lambda word: (
        f"postgresql://sluice_writer:{word('database_writer_password')}@pgbouncer:6432/sluice"
    ),
    "database_direct_url": lambda word: (
        f"postgresql://sluice_writer:{word('database_writer_password')}@timescaledb:5432/sluice"
    ),
    "redis_url": lambda word: f"redis://sluice:{word('redis_password')}@redis:6379/0",
    "flower_basic_auth": lambda word: f"admin:{word('flower_password')}",
    "kafka_sasl_username": lambda _: "sluice",
    "redpanda.users.txt": lambda word: f"sluice:{word('kafka_sasl_password')}:SCRAM-SHA-512\n",
    # The same settings as the owner of the tables has them, for what migrates and provisions.
    "owner_database_url": lambda word: (
        f"postgresql://sluice:{word('database_owner_password')}@timescaledb:5432/sluice"
    ),
    "web_database_url": lambda word: (
        f"postgresql://sluice_web:{word('database_web_password')}@timescaledb:5432/sluice"
    ),
    "pgbouncer.userlist.txt": lambda word: f'"sluice_writer" "{word("database_writer_password")}"\n',
    "redis.users.acl": lambda word: (
        f"user default off\nuser sluice on >{word('redis_password')} ~* &* +@all -@admin -@dangerous +info\n"
    ),
    "emqx.conf": lambda word: _fill((HERE / "emqx" / "emqx.conf").read_text(), word),
}


def generate(folder: Path) -> list[str]:
    """Makes what is missing, and returns its names. Raises `OSError`, `subprocess.CalledProcessError`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    made = [name for name in PASSWORDS if _write(folder / name, lambda: secrets.token_urlsafe(32))]

    def word(name: str) -> str:
        return (folder / name).read_text()

    _write(folder / SESSIONS, lambda: word("mqtt_password"))
    for name in OF_OTHERS:
        _write(folder / name, str)
    # These follow from the others and from files of the project, so they are written again.
    for name, content in DERIVED.items():
        path = folder / name
        path.unlink(missing_ok=True)
        _write(path, lambda content=content: content(word))  # type: ignore[misc]
    if not (folder / "mqtt_ca.pem").exists():
        _certificates(folder)
        made.append("mqtt_ca.pem")
    return made


def renew(folder: Path) -> Path:
    """Makes new passwords, and returns the folder that keeps the files as they were.

    Certificates, the secret of the MQTT sessions and Kafka's password stay. Raises what `generate` raises.
    """
    # A folder of an earlier version has no secret of the sessions yet: it is the old password.
    generate(folder)
    earlier = [int(path.name.removeprefix("before-")) for path in folder.glob("before-[0-9]*")]
    kept = folder / f"before-{1 + max(earlier, default=0)}"
    kept.mkdir(mode=0o700)
    for path in (path for path in folder.iterdir() if path.is_file()):
        shutil.copy2(path, kept)
    for name in RENEWED:
        (folder / name).unlink(missing_ok=True)
    generate(folder)
    return kept


def _write(path: Path, content: Callable[[], str]) -> bool:
    if path.exists():
        return False
    path.write_text(content())
    # Each container reads its files as a user of its own; on the host nobody else may enter the folder.
    path.chmod(0o444)
    return True


def _fill(template: str, word: Word) -> str:
    for name in PASSWORDS:
        template = template.replace(f"@{name}@", word(name))
    return template


def _certificates(folder: Path) -> None:
    """An authority and the broker's certificate, by openssl; the authority's key is thrown away."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    try:
        openssl(
            "req", "-x509", *curve, "-keyout", "mqtt_ca.key", "-out", "mqtt_ca.part",
            "-days", str(DAYS), "-subj", "/CN=Sluice local authority",
        )  # fmt: skip
        openssl(
            "req", "-x509", *curve, "-keyout", "mqtt_server.key", "-out", "mqtt_server.pem",
            "-days", str(DAYS), "-subj", "/CN=emqx", "-CA", "mqtt_ca.part", "-CAkey", "mqtt_ca.key",
            "-addext", "subjectAltName=DNS:emqx,DNS:localhost,IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip
    finally:
        (folder / "mqtt_ca.key").unlink(missing_ok=True)
    for name in ("mqtt_server.key", "mqtt_server.pem", "mqtt_ca.part"):
        (folder / name).chmod(0o444)
    (folder / "mqtt_ca.part").rename(folder / "mqtt_ca.pem")


def main() -> None:
    """Makes the files and says which are new."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--renew", action="store_true", help="new passwords in place of those that exist")
    renewing = arguments.parse_args().renew and FOLDER.exists()
    try:
        kept = renew(FOLDER) if renewing else None
        made = list(RENEWED) if kept else generate(FOLDER)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename or error} is missing; install openssl")
    except subprocess.CalledProcessError as error:
        sys.exit(f"openssl failed: {error.stderr.decode(errors='replace')}")
    sys.stdout.write(f"{FOLDER}: {len(made)} new{': ' + ', '.join(made) if made else ''}\n")
    if kept:
        sys.stdout.write(
            f"The old ones are in {kept}; the servers do not know the new ones yet: docs/deploy.md\n"
        )


if __name__ == "__main__":
    main()
