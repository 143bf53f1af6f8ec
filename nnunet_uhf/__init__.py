"""nnunet-uhf: ultra-high-field guidance for nnU-Net."""

__version__ = "0.1.0"
