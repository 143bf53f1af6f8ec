"""The one folder ``nnUNet_extTrainer`` points at."""
