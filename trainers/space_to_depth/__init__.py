"""Trainer of the space-to-depth keeper without a teacher; with one it is that of trainers/distillation (ours)."""
