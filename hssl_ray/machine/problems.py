"""What can go wrong with the services of a machine, told in one line."""

from __future__ import annotations


class ServiceError(ValueError):
    """A service could not be started, or is not what is wanted; nothing that was begun is left behind."""
