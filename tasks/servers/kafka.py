"""How every Kafka client of Sluice reaches the brokers and logs in."""

from typing import Any

from tasks.settings import Settings

# A broker that does not answer for so long is left, and others are asked.
ANSWER_SECONDS = 10.0
# How soon a client notices other leaders, more partitions, or a topic that was made again.
REFRESH_SECONDS = 10.0


def connection(chosen: Settings) -> dict[str, Any]:
    """A client's configuration for reaching the brokers and logging in."""
    password = chosen.kafka_sasl_password
    optional = {
        "sasl.username": chosen.kafka_sasl_username,
        "sasl.password": password.get_secret_value() if password else None,
        "ssl.ca.location": str(chosen.tls_ca_file) if chosen.tls_ca_file else None,
    }
    if not chosen.kafka_security_protocol.startswith("SASL_"):
        del optional["sasl.username"], optional["sasl.password"]
    else:
        optional["sasl.mechanism"] = chosen.kafka_sasl_mechanism
    if not chosen.kafka_security_protocol.endswith("SSL"):
        del optional["ssl.ca.location"]
    return {
        "bootstrap.servers": chosen.kafka_bootstrap_servers,
        "security.protocol": chosen.kafka_security_protocol,
        # librdkafka's default of ten seconds would be added to every outage.
        "reconnect.backoff.max.ms": 2000,
        # By default a minute, for which a client awaits the answer of a broker whose machine hangs or is cut
        # off, and five minutes, after which it looks who leads a partition now.
        "socket.timeout.ms": round(ANSWER_SECONDS * 1000),
        "topic.metadata.refresh.interval.ms": round(REFRESH_SECONDS * 1000),
        **{name: value for name, value in optional.items() if value is not None},
    }
