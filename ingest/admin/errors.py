"""Errors of the operator's commands that the operator can fix."""


class OperatorError(Exception):
    """The command could not do its work. The message says what is wrong and what to do about it."""


class ServerAway(OperatorError):
    """A server does not answer or does not let us in. The message names it and the variable to look at."""
