"""`make upgrade-test`: another revision's processes are replaced by those of this one, under load."""
