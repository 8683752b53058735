"""Recorded runs on the real X-rays: ``results/``, and the documents that are made from it.

``record`` copies a DVC experiment's figures to ``results/<name>/``, ``rebuild`` runs one again and
compares, and ``render`` writes the tables and plots of README and docs.
"""
