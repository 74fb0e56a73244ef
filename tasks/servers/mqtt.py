"""How every MQTT client of Sluice logs in, verifies the broker, and names its session there."""

import hashlib
import hmac
import ssl
from typing import Any, TypeVar

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tasks.settings import Settings

Paho = TypeVar("Paho", bound=Client)


def client(chosen: Settings, client_id: str, **options: Any) -> Client:
    """An MQTT 5 client with the account and the TLS of the settings, not connected yet.

    Raises `ssl.SSLError` or `OSError` when the certificates of the settings cannot be used.
    """
    return client_of(Client, chosen, client_id, **options)


def client_of(kind: type[Paho], chosen: Settings, client_id: str, **options: Any) -> Paho:
    """The same with a subclass of paho's client."""
    made = kind(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5, **options
    )
    if chosen.mqtt_username is not None:
        password = chosen.mqtt_password
        made.username_pw_set(chosen.mqtt_username, password.get_secret_value() if password else None)
    if (context := tls_context(chosen)) is not None:
        made.tls_set_context(context)
    return made


def session_id(chosen: Settings, name: str) -> str:
    """The client id of a session that outlives its process: always the same, and impossible to guess.

    Brokers give a session to any client that connects with its client id, under whatever account. Without a
    secret in the settings the id is the name alone.
    """
    secret = chosen.mqtt_session_secret or chosen.mqtt_password
    if secret is None:
        return name
    digest = hmac.new(secret.get_secret_value().encode(), name.encode(), hashlib.sha256)
    return f"{name}-{digest.hexdigest()[:32]}"


def tls_context(chosen: Settings) -> ssl.SSLContext | None:
    """How to verify the broker, and the certificate to show it; None without TLS."""
    if not chosen.mqtt_tls:
        return None
    context = ssl.create_default_context(cafile=chosen.tls_ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if chosen.mqtt_tls_cert_file is not None:
        context.load_cert_chain(chosen.mqtt_tls_cert_file, chosen.mqtt_tls_key_file)
    return context
