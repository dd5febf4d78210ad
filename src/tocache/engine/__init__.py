"""Executes a plan on a real model: the clock, the sub-layers, and how they are attached."""
