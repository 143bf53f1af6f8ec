"""nnU-Net's trainer with a keeper, and its controls."""
