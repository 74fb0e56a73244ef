"""What users ask over MQTT: queued, handed to the workers, answered."""
