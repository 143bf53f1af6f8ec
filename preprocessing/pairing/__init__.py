"""Low-field and high-field scans of the same subjects, or of two groups, as one dataset."""
