"""Dead letters: what one says, how it is sent, read back, and known to be replayed already."""
