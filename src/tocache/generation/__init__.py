"""One picture or video with the cache, written to a file; where it is asked for, with the same without it."""

from tocache.generation.comparison import draw_comparison, freshness, side_by_side
from tocache.generation.draw import DEFAULT_MODEL, generate, load_pipeline
from tocache.generation.fingerprint import fingerprint
from tocache.generation.result import Generated, caption, psnr
from tocache.generation.runs import Progress, makes_videos

__all__ = [
    "DEFAULT_MODEL",
    "Generated",
    "Progress",
    "caption",
    "draw_comparison",
    "fingerprint",
    "freshness",
    "generate",
    "load_pipeline",
    "makes_videos",
    "psnr",
    "side_by_side",
]
