"""The load tester: publishes as a fleet of devices, then accounts for every single message."""
