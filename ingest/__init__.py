"""The processes around the workers, one file each, and the operator's commands."""
