"""Numbers against truth: images, labels, volumes, statistics. Imports `imageio`, `nnunet`."""
