"""Trials on Ray: the only room that imports it, beside the engine."""
