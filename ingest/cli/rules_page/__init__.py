"""The page of rules and alerts, docs/rules.md.

Fields and their descriptions are those of the models, and the outcomes of the examples are those of the state
machine.
"""
