"""Data in: raw nnU-Net datasets of scans, simulated low field, pictures of cases. Imports `routes` and lower rooms."""
