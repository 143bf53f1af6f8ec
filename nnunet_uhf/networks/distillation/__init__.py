"""Teacher, keeper and their training (arXiv 2402.08409). Imports `networks.blocks`."""
