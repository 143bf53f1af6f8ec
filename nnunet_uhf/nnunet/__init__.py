"""nnU-Net's own files: datasets, plans, labels, model folders, checkpoints. Imports the rooms below it."""
