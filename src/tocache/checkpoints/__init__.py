"""Checkpoints in their authors' layout: read as data, compared with a model, renamed. Knows no model."""
