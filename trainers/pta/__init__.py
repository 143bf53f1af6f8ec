"""Trainers of PTA: unpaired scans of two field strengths (arXiv 2503.05339)."""
