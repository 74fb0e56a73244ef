"""`make ha`: machines of Redis, Kafka and PostgreSQL are lost under load, again and again."""
