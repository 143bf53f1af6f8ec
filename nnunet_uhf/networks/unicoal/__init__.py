"""Uni-COAL: one alias-free, co-modulated generator for cross-modality synthesis and super-resolution at any scale."""
