"""Measures caches against each other: metrics, contenders, and the benchmark that runs them side by side."""
