"""Dead letters: their content, how they are sent and read back, and which are replayed already."""
