"""The demo: phantom subjects through the real chain, from simulated low field to a guided segmentation."""
