"""What runs a model: its weights, sessions, settings, the token loop, batches and scores."""
