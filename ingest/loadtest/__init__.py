"""The load tester: publishes as a fleet of devices, then reckons what became of each single message."""
