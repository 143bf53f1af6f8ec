"""Makes the keepers that the package carries, from label maps alone, and measures them on real scans."""
