"""Trainers of teacher and keeper (arXiv 2402.08409)."""
