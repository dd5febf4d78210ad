"""A diffusers model that is loaded whole or not at all."""

from __future__ import annotations

from typing import Any

from tocache.checkpoints.checks import listed
from tocache.errors import CheckpointError


class LoadedWhole:
    """Stands before ModelMixin; its `from_pretrained` refuses a folder whose tensors are not just those of the model.

    diffusers' own warns of missing tensors and leaves them without values, so that the model breaks when it runs.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Any:
        """As ModelMixin.from_pretrained, and raises CheckpointError that names the tensors which do not fit.

        Not where the caller asks for `output_loading_info`, which tells them, or for `ignore_mismatched_sizes`.
        """
        diffusers: Any = super()
        if options.get("output_loading_info") or options.get("ignore_mismatched_sizes"):
            return diffusers.from_pretrained(pretrained_model_name_or_path, **options)
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = diffusers.from_pretrained(pretrained_model_name_or_path, **options)
        problems = [
            f"{len(info[kind])} {said}: {listed(map(_told, info[kind]))}"
            for kind, said in (
                ("missing_keys", "missing"),
                ("unexpected_keys", "unexpected"),
                ("mismatched_keys", "of another shape"),
            )
            if info[kind]
        ]
        if problems:
            where = "/".join(filter(None, (str(pretrained_model_name_or_path), options.get("subfolder"))))
            raise CheckpointError(f"{where}: the tensors are not those of the model; {'; '.join(problems)}")
        return model


def _told(key: Any) -> str:
    if isinstance(key, str):
        return key
    name, found, expected = key
    return f"{name} has shape {tuple(found)}, expected {tuple(expected)}"
