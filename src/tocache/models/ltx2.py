"""LTX-2 (Lightricks, arXiv 2601.03233): a video and its sound, each in a stream of its own, which hear one another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tocache.engine.wiring import Attention, Guidance, Layer, TokenWise
from tocache.models.base import itemsize_of, unpublished
from tocache.models.costs import attention_cost, cross_cost, linear_flops, token_cost
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, UNCOND_COND, Cost, Pass, Site

LTX2 = unpublished("ltx-2", CROSS_ATTENTION, MLP)

AUDIO = "audio"
# the tokens of a stream that attend to the other stream: none in a pass that keeps the two apart
HEARING, SEEING = "image, hearing", "audio, seeing"

_TEXT = 1024
_USUAL_GRID = (16, 16, 24)  # 121 frames of 512 × 768 pixels
_USUAL_AUDIO = 126  # their five seconds


# group and prefix of the modules of each stream
_STREAMS = (("image", ""), (AUDIO, "audio_"))
# what attends to the other stream: module, group, group of the keys
_BETWEEN = (("audio_to_video_attn", HEARING, AUDIO), ("video_to_audio_attn", SEEING, "image"))


@dataclass(frozen=True)
class AudioVideo:
    """A block of two streams: the video's modules, and the sound's, of so many channels, beside them.

    The attentions to the other stream rotate their queries and have norms that both read: they are computed whole. What
    they attend to is drawn at the same time, and no text that stays as it is: to a method they are self-attention.
    """

    audio_width: int = 0

    def layers(self, path: str) -> list[Layer]:
        """Those of the block at `path`."""
        block = int(path.rpartition(".")[2])
        streams = [self._stream_layers(f"{path}.{prefix}", group, block) for group, prefix in _STREAMS]
        own, text, mlps = zip(*streams, strict=True)
        between = [Attention((f"{path}.{name}",), f"{path}.{name}", (), (keys,)) for name, _, keys in _BETWEEN]
        return [*own, *text, *between, *mlps]

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        audio = {**place, "width": self.audio_width}
        streams = [
            self._stream_sites(f"{path}.{prefix}", group, audio if group == AUDIO else place)
            for group, prefix in _STREAMS
        ]
        own, text, mlps = zip(*streams, strict=True)
        between = [
            Site(f"{path}.{name}", SELF_ATTENTION, group, **audio if group == SEEING else place, rows=False)
            for name, group, _ in _BETWEEN
        ]
        return [*own, *text, *between, *mlps]

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        own, text, mlps = zip(*(self._stream_costs(block, shape, *stream) for stream in _STREAMS), strict=True)
        between = [self._between(block.get_submodule(name), shape, *at) for name, *at in _BETWEEN]
        return [*own, *text, *between, *mlps]

    def _stream_layers(self, prefix: str, group: str, block: int) -> tuple[Layer, Layer, Layer]:
        attention, cross, mlp = (f"{prefix}{name}" for name in ("attn1", "attn2", "ff"))
        left_out = ("spatio_temporal_guidance_blocks", block)
        return (
            Attention((attention,), attention, (f"{prefix}norm1",), (group,), left_out=left_out),
            TokenWise(cross, cross, f"{prefix}norm2"),
            TokenWise(mlp, mlp, f"{prefix}norm3"),
        )

    def _stream_sites(self, prefix: str, group: str, place: Mapping[str, Any]) -> tuple[Site, Site, Site]:
        attention, cross, mlp = (f"{prefix}{name}" for name in ("attn1", "attn2", "ff"))
        options: dict[str, Any] = {"rows": True, "self_map": attention, "cross_map": cross}
        return (
            Site(attention, SELF_ATTENTION, group, **place, rows=False),
            Site(cross, CROSS_ATTENTION, group, **place, **options),
            Site(mlp, MLP, group, **place, **options),
        )

    def _stream_costs(self, block: Any, shape: Pass, group: str, prefix: str) -> tuple[Cost, Cost, Cost]:
        rows, tokens = shape.rows, shape.tokens[group]
        attention, cross, mlp = (block.get_submodule(f"{prefix}{name}") for name in ("attn1", "attn2", "ff"))
        own, text = attention_cost(attention, rows, tokens, tokens), cross_cost(cross, rows, tokens, shape.context)
        gated = (_with_gates(own, attention, rows, tokens), _with_gates(text, cross, rows, tokens))
        return *gated, token_cost(rows, tokens, mlp)

    def _between(self, attention: Any, shape: Pass, group: str, keys: str) -> Cost:
        rows, tokens, others = shape.rows, shape.tokens[group], shape.tokens[keys]
        if not tokens:
            return Cost(full=0, token=0)
        cost = _with_gates(cross_cost(attention, rows, tokens, others), attention, rows, tokens)
        # the keys are no text's, which would stay as they are
        read = rows * others * linear_flops((attention.to_k, attention.to_v))
        return replace(cost, full=cost.full + read, token=0)


class LTX2Video(Stacked):
    """diffusers' LTX2VideoTransformer3DModel, of LTX-2, 2.3 and 2.5."""

    name = "ltx-2"
    classes = ("LTX2VideoTransformer3DModel",)
    recipes = (LTX2,)
    default_steps = 30
    default_guidance = 3.0
    stacked = (Blocks("transformer_blocks", AudioVideo(), ("hidden_states", "audio_hidden_states")),)
    halves = UNCOND_COND
    notes = (
        "norms, modulation and the text's key and value projections are not counted",
        "where guidance skips the self-attention of some blocks, it is counted all the same",
    )

    def kind(self, blocks: Blocks, block: Any) -> AudioVideo:
        return AudioVideo(int(block.audio_attn1.query_dim))

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, video, _ = arguments["hidden_states"].shape
        grid: Any = tuple(arguments.get(name) for name in ("num_frames", "height", "width"))
        if None in grid or math.prod(grid) != video:  # frames that are given, and joined to the stream
            grid = None
        tokens = _tokens(video, arguments["audio_hidden_states"].shape[1], bool(arguments.get("isolate_modalities")))
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, _tokens(math.prod(_USUAL_GRID), _USUAL_AUDIO), _USUAL_GRID, context=_TEXT)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # with given frames every token has a time of its own
        times = (arguments.get(name) for name in ("timestep", "audio_timestep"))
        return all(time is None or time.numel() == arguments["hidden_states"].shape[0] for time in times)

    def default_passes(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> tuple[Pass, ...]:
        first = self.default_pass(transformer, pictures=pictures, guided=guided, itemsize=itemsize)
        if not guided:
            return (first,)
        # the pipeline's own scales switch all three guidances on
        alone = replace(first, rows=pictures, halves=None)
        apart = _tokens(first.tokens["image"], first.tokens[AUDIO], apart=True)
        return first, replace(alone, name="perturbed"), replace(alone, name="isolated", tokens=apart)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        """The text's guidance is in one batch; those by skipped attention and by streams kept apart add a pass each."""
        halves = self.halves if _asks(arguments, "guidance_scale", 1) else None
        passes: list[tuple[str, str | None]] = [("batch", halves)]
        passes += [("perturbed", None)] if _asks(arguments, "stg_scale", 0) else []
        passes += [("isolated", None)] if _asks(arguments, "modality_scale", 1) else []
        return Guidance(tuple(passes))


def _tokens(video: int, audio: int, apart: bool = False) -> dict[str, int]:
    return {"image": video, AUDIO: audio, HEARING: 0 if apart else video, SEEING: 0 if apart else audio}


def _with_gates(cost: Cost, attention: Any, rows: int, tokens: int) -> Cost:
    """`cost` and that of the gates of each head, which LTX-2.3 has."""
    if attention.to_gate_logits is None:
        return cost
    gates = token_cost(rows, tokens, attention.to_gate_logits)
    return replace(
        cost,
        full=cost.full + gates.full,
        token=cost.token + gates.token if cost.token else 0,
        weights=cost.weights + gates.weights,
        moved=cost.moved + gates.moved,
    )


def _asks(arguments: Mapping[str, Any], name: str, above: float) -> bool:
    """Whether the video's or the sound's scale of this guidance switches it on."""
    scales = (arguments.get(name), arguments.get(f"audio_{name}"))
    return any(scale is not None and scale > above for scale in scales)
