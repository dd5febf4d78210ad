"""Named operating points: each says for which family it is and where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

from tocache.errors import OptionError, UnknownNameError
from tocache.methods import FORA, METHODS, PAB, Early, Method, Placed, ToCa

BALANCED = "balanced"
"""The middle one of three levels that every family has, and what is enabled where nothing is named."""
_ANY = ""


@dataclass(frozen=True)
class Preset:
    """One operating point.

    family  "" for those of any family, which a family may have its own in place of
    steps   the number of steps it was published with; None: it is for any number
    """

    name: str
    family: str
    method: Method
    steps: int | None
    source: str


# Full steps of 50 DDIM steps, by `tocache tune` on demo:class: for two times fewer FLOPs the placement that its search
# starts from (benchmarks/results/safe.jsonl has its loss), for three and five what the search found (tuning.jsonl).
_TWICE = (*range(16), 17, 20, 24, 28, 32, 37, 41, 45, 48)
_THRICE = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 27, 36, 44)
_FIVEFOLD = (0, 1, 2, 3, 4, 5, 7, 11, 17, 31)


def _lines(interval: float) -> Method:
    """Full steps at even distances and lines between them, which on demo:video lose least (docs/frontier.md).

    Open-Sora's scheduler spends most steps on noise already, where other models' full steps must stand closer.
    """
    return Early(interval, power=1.0, warmup=2, stale="taylor", order=1)


PRESETS = (
    Preset("quality", _ANY, Early(1.5), None, "two thirds of the steps full"),
    Preset(BALANCED, _ANY, Early(2.0), None, "half of the steps full"),
    Preset("fast", _ANY, Early(3.0), None, "a third of the steps full"),
    Preset("quality", "dit", Placed(_TWICE, 50, stale="taylor", order=1), None, "placed for demo:class, DDIM 50: 2.0x"),
    Preset(
        BALANCED,
        "dit",
        Placed(_THRICE, 50, where="sublayers", stale="taylor", order=1),
        None,
        "tuned on demo:class, DDIM 50: 3.1x",
    ),
    Preset("fast", "dit", Placed(_FIVEFOLD, 50, stale="hermite", order=2), None, "tuned on demo:class, DDIM 50: 5.0x"),
    Preset("quality", "opensora", _lines(1.5), None, "two thirds of the steps full"),
    Preset(BALANCED, "opensora", _lines(2.0), None, "half of the steps full"),
    Preset("fast", "opensora", _lines(3.0), None, "a third of the steps full"),
    Preset("paper-ddim50", "dit", ToCa(3, 0.07, recipe="dit-ddim50"), 50, "ToCa: DiT-XL/2-256, DDIM 50, 10.23 TFLOPs"),
    Preset(
        "paper-ddpm250", "dit", ToCa(4, 0.07, recipe="dit-ddpm250"), 250, "ToCa: DiT-XL/2-256, DDPM 250, 43.4 TFLOPs"
    ),
    Preset("paper-fora3", "dit", FORA(3), 50, "ToCa's FORA row: DiT-XL/2-256, DDIM 50, 8.59 TFLOPs"),
    Preset("paper-r60", "pixart", ToCa(3, 0.4), 20, "ToCa table 1: PixArt-XL/2-256, R = 60%, 6.33 TFLOPs"),
    Preset("paper-r70", "pixart", ToCa(3, 0.3), 20, "ToCa table 1: PixArt-XL/2-256, R = 70%, 5.78 TFLOPs"),
    Preset("paper-r80", "pixart", ToCa(3, 0.2), 20, "ToCa table 1: PixArt-XL/2-256, R = 80%, 5.05 TFLOPs"),
    Preset("paper-r90", "pixart", ToCa(3, 0.1), 20, "ToCa table 1: PixArt-XL/2-256, R = 90%, 4.26 TFLOPs"),
    Preset("paper-n4", "flux", ToCa(4, 0.1), 50, "ToCa's README: FLUX.1-dev 1024, N = 4, 1263 TFLOPs"),
    Preset("paper-n5", "flux", ToCa(5, 0.1), 50, "ToCa's README: FLUX.1-dev 1024, N = 5, 1127 TFLOPs"),
    Preset("paper-n6", "flux", ToCa(6, 0.1), 50, "ToCa's README: FLUX.1-dev 1024, N = 6, 990 TFLOPs"),
    Preset("paper-r80-video", "opensora", ToCa(3, 0.134), 30, "ToCa table 2: Open-Sora 480p 2 s, R = 80%, 1440 TFLOPs"),
    Preset("paper-r85-video", "opensora", ToCa(3, 0.1), 30, "ToCa table 2: Open-Sora 480p 2 s, R = 85%, 1394 TFLOPs"),
    Preset("paper-fora2", "opensora", FORA(2), 30, "ToCa's FORA row: Open-Sora 480p 2 s, 1751 TFLOPs"),
    Preset("paper-pab1", "opensora", PAB(2, 4, 6), 30, "ToCa's PAB row 1: Open-Sora 480p 2 s, 2658 TFLOPs"),
    Preset("paper-pab2", "opensora", PAB(3, 5, 7), 30, "ToCa's PAB row 2: Open-Sora 480p 2 s, 2615 TFLOPs"),
    Preset("paper-pab3", "opensora", PAB(5, 7, 9), 30, "ToCa's PAB row 3: Open-Sora 480p 2 s, 2558 TFLOPs"),
)
"""All of them; names repeat where families have their own."""


def preset_names() -> list[str]:
    """Of all families, each once."""
    return list(dict.fromkeys(known.name for known in PRESETS))


def presets_of(family: str) -> dict[str, Preset]:
    """By name, those of a family and those of any."""
    own = {known.name: known for known in PRESETS if known.family == family}
    return {known.name: own.get(known.name, known) for known in PRESETS if known.family in (family, _ANY)}


def preset(name: str, family: str) -> Method:
    """The method of a preset. Raises UnknownNameError, or OptionError where it belongs to another family."""
    known = presets_of(family)
    if name in known:
        return known[name].method
    others = [other.family for other in PRESETS if other.name == name]
    if name in METHODS:
        raise UnknownNameError(f"{name!r} is no preset but a method: pass tocache.methods.{METHODS[name].__name__}()")
    if not others:
        raise UnknownNameError.of("preset", name, known)
    raise OptionError(
        f"preset {name!r} is for the family {others[0]!r}, this model is of {family!r}; "
        f"presets for it: {', '.join(known)}"
    )


def preset_steps(name: str) -> int | None:
    """The number of steps that a preset was published with; None where there is none, and for unknown names."""
    return next((known.steps for known in PRESETS if known.name == name), None)
