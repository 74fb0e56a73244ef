"""A message as MQTT has it, up to its Kafka record: session, packets, acknowledgement."""
