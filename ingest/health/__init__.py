"""The health of a process, and of its client of Kafka."""
