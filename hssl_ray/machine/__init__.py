"""This machine: the services that `up` starts on it, and what is wrong with it."""
