"""What goes wrong with data."""


class DataError(ValueError):
    """A data set is absent, damaged or not what it claims to be; the message names the file and what to do."""


class NotPrepared(DataError):
    """A data set is not on this machine; the message says what to fetch and where to put it."""
