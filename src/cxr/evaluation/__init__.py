"""Evaluation: predictions, their metrics, and the intervals of the AUCs."""
