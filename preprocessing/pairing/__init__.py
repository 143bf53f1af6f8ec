"""Scans of two field strengths, of the same subjects or of others, as one dataset. Imports `datasets`, `imageio`."""
