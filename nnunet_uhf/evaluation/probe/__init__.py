"""What frozen feature maps know of structures, told by a linear classifier and a few labelled subjects (ours)."""
