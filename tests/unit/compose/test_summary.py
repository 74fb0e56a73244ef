"""What `make up` and `make status` say about a stack."""

from compose.local import summary

ENV = {"MQTT_PORT": "1883", "DATABASE_URL": "postgresql://here"}


def test_a_running_stack_names_the_variables_that_it_does_not_apply() -> None:
    """Values that differ from the running stack's are named, without them; equal and foreign ones are not."""
    assert summary.not_applied(ENV, {"MQTT_PORT": "2883", "DATABASE_URL": "postgresql://here"}) == [
        "MQTT_PORT"
    ]
    assert summary.not_applied(ENV, {"DOMAINS": "examples.logistics", "PATH": "/bin"}) == ["DOMAINS"]
    assert summary.not_applied({**ENV, "DOMAINS": "a"}, {"DOMAINS": "a", "MQTT_PORT": ""}) == []
