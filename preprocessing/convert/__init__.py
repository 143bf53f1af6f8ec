"""Other layouts -> raw nnU-Net datasets, without touching the sources."""
