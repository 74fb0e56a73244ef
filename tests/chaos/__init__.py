"""Everything that can break is broken under load, and what became of each message is counted."""
