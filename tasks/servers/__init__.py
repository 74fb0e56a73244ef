"""Redis, Postgres, Kafka, MQTT and the Celery broker: how to connect to each, and when it counts as away."""
