"""Errors of the local stack, as sentences for the person who started it."""


class StackError(Exception):
    """The local stack cannot do what was asked; the message says what stands in the way and what to do."""


class NotReadyError(StackError):
    """A server or process did not get ready; the message holds the last lines of its log."""


class PortTakenError(StackError):
    """A port that the stack needs belongs to another program; the message names the variable to change."""
