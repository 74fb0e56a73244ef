"""Batches between Kafka and the workers: gathered, sent, followed."""
