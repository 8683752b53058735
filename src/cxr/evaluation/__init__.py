"""Evaluation: predictions, the metrics that follow from them, and their intervals."""
