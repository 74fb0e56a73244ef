"""The live view: what the pipeline does, while a simulated fleet publishes."""
