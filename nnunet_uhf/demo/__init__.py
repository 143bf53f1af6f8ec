"""The demo: phantom subjects through the real chain, from simulated low field to a guided segmentation."""

from nnunet_uhf.demo.pipeline import run

__all__ = ["run"]
