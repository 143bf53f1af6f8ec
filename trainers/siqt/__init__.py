"""Trainers of the anisotropic U-Net (Lin et al. 2023)."""
