"""The uhf block in nnU-Net's plans: which keeper, does it fit, what does it cost. Imports down from `keepers`."""
