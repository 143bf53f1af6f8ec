"""Writes raw nnU-Net datasets, whole or not at all, and checks what goes into them. Imports `routes`, `imageio`."""
