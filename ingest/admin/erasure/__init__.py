"""Removes what there is of a user or a device, everywhere."""
