"""The one error of this room."""


class DataError(ValueError):
    """A data set is absent, damaged or not what it claims to be; the message names the file and what to do."""
