"""Labelled scans of other layouts as nnU-Net datasets, a file a layout. Imports `datasets`, `nnunet`, `imageio`."""
