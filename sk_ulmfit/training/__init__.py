"""Training and prediction as functions from plain data to plain data."""
