"""Open-Sora 1.2 without a cache."""
