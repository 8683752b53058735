"""Measurements, side by side in one run; each is one command."""
