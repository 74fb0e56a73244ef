"""The registry of devices: `process` notes their activity, which counts when the batch is done."""
