"""MLflow, told of a study: what, by whom, and when it is away."""
