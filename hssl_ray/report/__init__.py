"""Answers: statistics, comparison, figures, the page. Reads Arrow tables, never a store."""
