"""PTA (arXiv 2503.05339): high-field-like images from scans of different subjects; parts, losses, kind."""
