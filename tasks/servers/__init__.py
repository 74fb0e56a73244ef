"""Redis, Postgres, Kafka, MQTT and the Celery broker: how each is connected to, and when it is away."""
