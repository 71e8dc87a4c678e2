"""The study file: read, checked, and told what is wrong with it."""
