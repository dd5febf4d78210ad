"""What tells a model from another one of the same name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tocache.demo.names import demo_folder
from tocache.errors import UnknownNameError
from tocache.planning import is_demo

_WHOLE = 2**20  # bytes up to which a file's content is hashed whole


def fingerprint(model: str | Path) -> str | None:
    """What tells a model's files from others of the same name: a commit of the hub, or a hash; None where unknown.

    The hash is over all names and sizes, the content of small files, and both ends of large ones: weights that were
    trained on differ there as well, and 24 GB are not read twice.
    """
    if is_demo(model):
        try:
            model = demo_folder(str(model))
        except UnknownNameError:
            return None  # random weights: the version of the package tells
    folder = Path(model)
    if not folder.is_dir():
        return _commit_of(str(model))
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder)):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_WHOLE))
            if size > _WHOLE:
                file.seek(max(_WHOLE, size - _WHOLE))
                digest.update(file.read())
    return digest.hexdigest()[:16]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _commit_of(hub_id: str) -> str | None:
    """The commit of a model in the hub's cache, in which it was put when it was loaded."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "model_index.json")
    return Path(path).parent.name if isinstance(path, str) else None
