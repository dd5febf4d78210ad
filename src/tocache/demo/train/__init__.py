"""How the demo pipelines came to be: ``python -m tocache.demo.train vae|judge|text|class|video-vae|video|ship``."""
