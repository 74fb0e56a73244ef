"""Promises that hold when processes are killed, and the stack is stopped, replaced, or gets new passwords."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from compose.local.layout import PROJECT
from ingest.health.process_lease import HOLDER
from tests.docker.command import Failed, expect, wait_until
from tests.docker.load import Account, Load, connect, disconnect
from tests.docker.project import DOWN_SECONDS, PROCESSES, UP_SECONDS, Project
from tests.docker.requests import Requests

# Docker starts a container again after a pause that doubles; then the health check must have come round.
BACK_SECONDS = 150.0
ROWS_SECONDS = 150.0
# Long enough for Docker to have started it again, if it did.
LEFT_SECONDS = 3.0
# That of EMQX is left out: Mosquitto in its place writes what waits to the disk every ten seconds.
KILLED_SERVERS = ("redis", "timescaledb", "pgbouncer", "redpanda")
STEPS = "010_roles.sh"
COUNTS = ("GATEWAYS", "CONTROLS", "BEATS")
"""What says in compose/.env how many there are."""
LEASES = ("control", "gateway sluice-gateway")
TAKEN_OVER_SECONDS = 15.0


@dataclass
class Breaks:
    """Everything under load; each leaves a stack that is well, or says what is not."""

    project: Project
    load: Load

    @classmethod
    def begin(cls, project: Project, accounts: dict[str, Account]) -> "Breaks":
        """With the load running."""
        made = cls(project, Load(project, accounts))
        made.load.await_stored(ROWS_SECONDS)
        return made

    def kill_9(self, service: str) -> str:
        """The process ends as by the kernel; Docker starts it again."""
        before = self.project.state(service)["StartedAt"]
        self.project.kill_process(service)
        began = time.monotonic()
        wait_until(
            lambda: self.project.state(service)["StartedAt"] != before,
            BACK_SECONDS,
            f"Docker to start {service}",
        )
        self.project.await_healthy(service, BACK_SECONDS)
        return self._outcome(f"started by Docker, healthy after {time.monotonic() - began:.0f} s")

    def docker_kill(self, *services: str) -> str:
        """Docker takes it for the operator's wish, and leaves them; `up` brings them back."""
        for service in services:
            self.project.docker("kill", self.project.container(service))
        time.sleep(LEFT_SECONDS)
        running = [name for name in services if self.project.state(name)["Status"] == "running"]
        expect(not running, f"Docker has started {', '.join(running)} again")
        self.project.up_all()
        return self._outcome("left alone by Docker, healthy after `up`")

    def stop_up(self) -> str:
        """A stop ends each process by itself, in time."""
        began = time.monotonic()
        self.project.compose("stop", seconds=DOWN_SECONDS)
        stopped = time.monotonic() - began
        codes = {name: self.project.state(name)["ExitCode"] for name in PROCESSES}
        expect(not any(codes.values()), f"exit codes {codes}")
        self.project.up_all()
        return self._outcome(f"stopped in {stopped:.0f} s, all with 0")

    def down_up(self) -> str:
        """The containers are removed, and the data are not."""
        before = self._rows()
        self.project.down()
        self.project.up_all()
        expect(self._rows() >= before, "rows are gone")
        return self._outcome(f"{before:,} rows are kept")

    def new_image(self) -> str:
        """A changed file is a new image, whose containers take the place of the old ones; servers stay."""
        servers = {name: self.project.container(name) for name in KILLED_SERVERS}
        before = {name: self.project.container(name) for name in PROCESSES}
        old = self.project.docker.inspect("sluice:local", "{{.Id}}")
        with (self.project.folder / "tasks" / "__init__.py").open("a") as file:
            file.write("# another version\n")
        self.project.up_all()
        new = self.project.docker.inspect("sluice:local", "{{.Id}}")
        expect(new != old, "the image is the old one")
        kept = [name for name in PROCESSES if self.project.container(name) == before[name]]
        expect(not kept, f"{', '.join(kept)} kept the old image")
        moved = [name for name, container in servers.items() if self.project.container(name) != container]
        expect(not moved, f"{', '.join(moved)} was replaced, too")
        return self._outcome(f"{len(PROCESSES)} containers replaced, no server")

    def two_of_each(self, account: Account, user: str) -> str:
        """Two of gateway, control and beat: that which acts is killed for good, and the other goes on."""
        self.project.environ.update(dict.fromkeys(COUNTS, "2"))
        self.project.up_all()
        requests = Requests(self.project, user, account)
        try:
            seconds = [self._lose(lease) for lease in LEASES]
            self.project.docker("kill", self.project.compose("ps", "--quiet", "beat").split()[0])
            told = self._outcome(f"the other acts after {max(seconds):.1f} s at most")
            answered = requests.settle()
        finally:
            self.project.environ.update(dict.fromkeys(COUNTS, "1"))
            self.project.up_all()
            requests.stop()
        return f"{told}; {answered}"

    def _lose(self, lease: str) -> float:
        acts = self._acts(lease)
        expect(acts, f"nobody has the lease of {lease}")
        self.project.docker("kill", acts)
        return wait_until(
            lambda: self._acts(lease) not in {"", acts}, TAKEN_OVER_SECONDS, f"the other {lease} to act"
        )

    def _acts(self, lease: str) -> str:
        """The container that has the lease; empty when none has."""
        with self.project.database() as connection:
            row = connection.execute(HOLDER, [lease]).fetchone()
        return "" if row is None else str(row[0]).partition("@")[2]

    def new_certificates(self, account: Account) -> str:
        """An authority and a certificate in the place of others, by the steps of docs/secure.md."""
        folder = self.project.folder / "compose" / "secrets"
        old = self.project.secret("mqtt_ca.pem")
        for name in ("mqtt_ca.pem", "mqtt_server.pem", "mqtt_server.key"):
            (folder / name).unlink()
        self.project.make_secrets()
        expect(self.project.secret("mqtt_ca.pem") != old, "the authority is the old one")
        self.project.up("--force-recreate", "--no-deps", "emqx")
        disconnect(connect(self.project, account, authority=self.project.authority))
        return self._outcome("a device that trusts the new authority is let in by TLS")

    def end(self) -> str:
        """The last reading is acknowledged, and stored once."""
        self.load.stop()
        outcome = self.load.settle()
        expect(not outcome.lost and not outcome.doubled, str(outcome))
        return str(outcome)

    def new_secrets(self) -> str:
        """Passwords that an old volume does not know: `setup` says what to do, and nothing is changed."""
        before = self._rows()
        self.project.down()
        folder = self.project.folder / "compose" / "secrets"
        kept = folder.with_name("secrets.kept")
        folder.rename(kept)
        try:
            self.project.make_secrets()
            told = self._refused()
        finally:
            self.project.down()
            shutil.rmtree(folder, ignore_errors=True)
            kept.rename(folder)
        expect(STEPS in told, f"setup does not say what to do: {told[-500:]}")
        self.project.up()
        expect(self._rows() == before, "rows have changed")
        return "refused with the steps; with the old folder all rows are there again"

    def renewed_secrets(self) -> str:
        """New passwords by the commands of the docs; the old ones are none any more."""
        page = (PROJECT / "docs" / "deploy.md").read_text()
        block = re.search(r"\*\*New passwords\*\*.*?```sh[^\n]*\n(.*?)```", page, re.DOTALL)
        expect(block, "docs/deploy.md has no commands for new passwords")
        assert block
        before, old = self._rows(), self.project.secret("database_url")
        self.project.shell(block[1].replace("python3", "python3 -B"), 2 * UP_SECONDS)
        self.project.up_all()
        expect(self.project.secret("database_url") != old, "the passwords are the old ones")
        expect(self._rows() == before, "rows have changed")
        sick = [name for name in PROCESSES if not self.project.healthy(name)]
        expect(not sick, f"not healthy: {', '.join(sick)}")
        return "the four commands of this page, all healthy, all rows there"

    def _outcome(self, told: str) -> str:
        """Waits until readings are stored again; raises `Failed` when one is lost or there twice."""
        seconds = self.load.await_stored(ROWS_SECONDS)
        outcome = self.load.settle()
        expect(not outcome.lost and not outcome.doubled, f"{told}; {outcome}")
        return f"{told}; rows again after {seconds:.0f} s more; {outcome}"

    def _rows(self) -> int:
        with self.project.database() as connection:
            row = connection.execute("SELECT count(*) FROM raw_telemetry").fetchone()
        assert row is not None
        return int(row[0])

    def _refused(self) -> str:
        try:
            self.project.up()
        except Failed:
            return self.project.compose("logs", "--no-color", "setup")
        raise Failed("`up` took other passwords than those of the volume")


def kills(breaks: Breaks) -> list[tuple[str, Callable[[], str]]]:
    """The proofs about killed processes, by their names."""
    return [
        *(
            (f"`kill -9` of {service} under load", lambda of=service: breaks.kill_9(of))
            for service in (*PROCESSES, *KILLED_SERVERS)
        ),
        (
            f"`docker kill` of {', '.join(PROCESSES)} at once, under load",
            lambda: breaks.docker_kill(*PROCESSES),
        ),
    ]
