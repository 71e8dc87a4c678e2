"""Homomorphic self-supervised learning as a Ray-distributed study service."""

__version__ = "0.1.0"
