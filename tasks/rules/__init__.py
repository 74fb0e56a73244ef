"""Rules and how they judge: rules, alert states, commands, and `machine`, which decides. Pure."""
