"""The experiment of docs/BENCHMARKS.md: guided against plain nnU-Net with controls; `run.py` is the script."""
