"""Comparison with recorded runs of the published code; see run.py."""
