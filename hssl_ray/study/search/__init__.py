"""What a study suggests, stops early, races and may spend."""
