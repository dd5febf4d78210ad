"""Where everything of a folder of samples lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONFIG = "config.json"
MANIFEST = "manifest.jsonl"
IMAGES = "images"


@dataclass(frozen=True)
class Layout:
    """The paths of a folder whose shards hold `shard` pictures each: picture i is in shard i // `shard`."""

    root: Path
    shard: int

    @property
    def config(self) -> Path:
        return self.root / CONFIG

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def images(self) -> Path:
        return self.root / IMAGES

    def shard_of(self, index: int) -> int:
        """The number of the shard that picture `index` belongs to."""
        return index // self.shard

    def indices(self, shard: int, count: int) -> range:
        """The pictures of a shard, of `count` pictures in all."""
        return range(shard * self.shard, min((shard + 1) * self.shard, count))

    def shards(self, count: int) -> int:
        """How many shards `count` pictures fill."""
        return -(-count // self.shard)

    def folder(self, shard: int) -> Path:
        """Where the files of a shard lie that is no .tar."""
        return self.images / shard_name(shard)

    def tar(self, shard: int) -> Path:
        """Where a shard lies that is a .tar."""
        return self.images / f"{shard_name(shard)}.tar"

    def part(self, shard: int) -> Path:
        """Where the pictures of a shard are that becomes a .tar, in the order in which they were drawn."""
        return self.images / f"{shard_name(shard)}.tar.part"

    def name(self, index: int, suffix: str = ".png") -> str:
        """The manifest's `file` of a picture: shard and name, `000000/00000001.png`."""
        return f"{shard_name(self.shard_of(index))}/{key(index)}{suffix}"


def shard_name(shard: int) -> str:
    """What a shard is called, without .tar."""
    return f"{shard:06d}"


def key(index: int) -> str:
    """What the files of a picture are called, without their suffix."""
    return f"{index:08d}"
