"""Simulated shifts: images as another hospital may take them, and a model's predictions of them."""
