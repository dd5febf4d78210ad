"""Grids of pictures as files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_grid(pictures: Tensor, path: Path, columns: int, side: int = 160) -> None:
    """Write (pictures, 3, height, width) in [-1, 1] as one picture, `columns` in a row, each `side` pixels wide."""
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    blank = pictures.new_ones(rows * columns - count, channels, height, width)
    grid = torch.cat([pictures, blank]).reshape(rows, columns, channels, height, width)
    grid = grid.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    pixels = ((grid.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    image = Image.fromarray(pixels)
    image.resize((columns * side, rows * side * height // width)).save(path)
