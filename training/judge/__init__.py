"""Thresholds and figures, from what the built binary answers."""
