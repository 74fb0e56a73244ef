"""What a process knows of itself and of Kafka."""
