"""The procedural world that the demo pipelines are trained on: scenes, their captions, their pictures and clips."""
