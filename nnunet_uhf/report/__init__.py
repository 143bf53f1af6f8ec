"""Comparison of finished models: scores, paired statistics, and one page that tells what they show."""
