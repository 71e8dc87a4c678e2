"""One training run. Knows neither Ray nor MLflow."""
