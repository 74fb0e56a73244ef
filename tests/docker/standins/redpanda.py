"""The entry point in Redpanda's place: Apache Kafka, with the listeners of Redpanda's command line."""

import os
import re
import subprocess
import sys
from pathlib import Path
from string import Template

DATA = Path("/var/lib/redpanda/data")
LOG4J = "-Dlog4j2.configurationFile=/opt/log4j2.properties"
JAVA = ("java", "-XX:+UseG1GC", "-Djava.awt.headless=true", LOG4J, "-cp", "/opt/jars/*")
CLUSTER = "c2x1aWNlLWxvY2FsLWthZg"
# Not 9093, which Redpanda's chart has for clients.
CONTROLLER_PORT = "9095"


def listeners(arguments: list[str], name: str) -> str:
    """An option with listeners, as Kafka writes them: `INTERNAL://0.0.0.0:9092,EXTERNAL://…`."""
    value = next(word.partition("=")[2] for word in arguments if word.startswith(f"--{name}="))
    return re.sub(r"(\w+)://", lambda found: f"{found[1].upper()}://", value)


def properties(template: str, arguments: list[str]) -> str:
    """Kafka's settings: the local stack's, with these listeners and this folder of data."""
    text = Template(template).substitute(port="9092", controller_port=CONTROLLER_PORT)
    opened, advertised = listeners(arguments, "kafka-addr"), listeners(arguments, "advertise-kafka-addr")
    names = [word.partition(":")[0] for word in opened.split(",")]
    changed = {
        "listeners": f"{opened},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in (*names, "CONTROLLER")),
        "inter.broker.listener.name": names[0],
        "log.dirs": str(DATA / "kafka"),
    }
    for key, value in changed.items():
        text = re.sub(rf"^{re.escape(key)}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
    return text


def main() -> None:
    """Formats an empty folder, and becomes Kafka."""
    if sys.argv[1:3] != ["redpanda", "start"]:
        sys.exit(f"only `redpanda start …` is known here, not {sys.argv[1:]}")
    conf = Path("/tmp/server.properties")  # noqa: S108 - the container's own
    conf.write_text(properties(Path("/opt/server.properties").read_text(), sys.argv))
    if not (DATA / "kafka" / "meta.properties").exists():
        tool = ("kafka.tools.StorageTool", "format", "--config", str(conf), "--cluster-id", CLUSTER)
        subprocess.run([*JAVA, *tool], check=True)
    os.execvp("java", [JAVA[0], "-Xms256m", "-Xmx512m", *JAVA[1:], "kafka.Kafka", str(conf)])  # noqa: S606


if __name__ == "__main__":
    main()
