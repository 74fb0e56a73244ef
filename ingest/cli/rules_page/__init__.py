"""The page of rules and alerts, docs/rules.md.

Fields and their descriptions are those of the models, and what the examples come to is what the state machine
makes of them.
"""
