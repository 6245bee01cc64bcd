"""What may go wrong with the stack, told in a way that a person can act on."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked. The text says why and what to do."""


class NotRunningError(StackError):
    """There is no running stack in the state folder."""


class AlreadyRunningError(StackError):
    """The stack in the state folder runs and is well."""
