"""Paired learning curves of docs/BENCHMARKS.md; `run.py` is the script."""
