"""Rules and how they judge: rules, alert states, the state machine, commands. Pure."""
