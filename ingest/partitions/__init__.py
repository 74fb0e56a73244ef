"""The bridge as a member of its Kafka group: which partitions it has, and where each begins."""
