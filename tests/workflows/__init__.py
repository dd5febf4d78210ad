"""The ways in which people call pipelines, with the cache on them; docs/workflows.md lists them."""
