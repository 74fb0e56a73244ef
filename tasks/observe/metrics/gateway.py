"""The metrics of the gateway, some of them shared with the control process as a client of MQTT."""

from tasks.observe.instruments import Counter, Gauge

# Gateway

GATEWAY_RECEIVED = Counter(
    "sluice_gateway_received_messages_total",
    ("gateway",),
    "Messages received by MQTT, redelivered ones counted again.",
    "No growth while devices send: see `sluice_mqtt_connected` and the gateway's log.",
    unit="messages",
)
GATEWAY_RECEIVED_BYTES = Counter(
    "sluice_gateway_received_bytes_total",
    ("gateway",),
    "Payload bytes received by MQTT.",
    "A jump without more messages: a device sends larger payloads; see PAYLOAD_MAX_BYTES.",
    unit="bytes",
)
GATEWAY_UNACKNOWLEDGED = Gauge(
    "sluice_gateway_unacknowledged_messages",
    ("gateway",),
    "Messages taken from MQTT that Kafka has not confirmed yet; at most MQTT_RECEIVE_MAXIMUM.",
    "Near the maximum for minutes: Kafka is slow or away, and the MQTT broker's queue grows.",
    unit="messages",
)
GATEWAY_DROPPED = Counter(
    "sluice_gateway_qos0_dropped_messages_total",
    ("gateway",),
    "QoS 0 messages that Kafka did not take in time. QoS 1 messages are never dropped.",
    "Kafka is slow or away; devices whose readings matter must publish with QoS 1.",
    unit="messages",
)
ACCESS_LIST_AGE = Gauge(
    "sluice_access_list_age_seconds",
    ("gateway",),
    "Age of the access lists by which the gateway finds owners of topics; 0 if no domain needs them.",
    "Growing beyond a minute: Postgres is away, and the last lists count; see the gateway's log.",
    unit="seconds",
)

# Every MQTT client

MQTT_CONNECTED = Gauge(
    "sluice_mqtt_connected",
    ("gateway", "control"),
    "1 while connected to the MQTT broker and subscribed, else 0.",
    "0: the broker is away or refuses the account; see the process's log.",
)
MQTT_CONNECTS = Counter(
    "sluice_mqtt_connects_total",
    ("gateway", "control"),
    "Connections made to the MQTT broker: the first, and each after a loss.",
    "Growing: the network or the broker ends connections, or two processes have the same client id.",
    unit="connections",
)
MQTT_SESSIONS_LOST = Counter(
    "sluice_mqtt_sessions_lost_total",
    ("gateway", "control"),
    "Connections that found no session at the MQTT broker, although this client had one.",
    "Messages that waited in the broker are lost: it lost its data, or another client ended the session."
    " See the runbook.",
    unit="sessions",
)
