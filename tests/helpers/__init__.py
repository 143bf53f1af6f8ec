"""What tests share: tiny datasets, keepers, runs and samples; each imported from where it is defined."""
