"""The metrics that each kind of process shows, a file for each; `tasks.observe.catalogue` has them all."""
