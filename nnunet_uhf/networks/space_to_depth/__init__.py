"""A keeper made for graphics cards: nothing is computed at full resolution (ours)."""
