"""The anisotropic U-Net of SIQT (Lin et al. 2023). Imports `networks.blocks`."""
