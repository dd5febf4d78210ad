from __future__ import annotations

from tocache.supported import list_models


def test_every_family_is_listed_with_what_it_supports() -> None:
    listed = {family.family: family for family in list_models()}
    assert set(listed) >= {"dit", "pixart", "flux"}
    assert listed["pixart"].partial == ("self-attention", "cross-attention", "mlp")
    assert listed["flux"].whole == ("self-attention",)
    assert listed["pixart"].scores == ("influence", "entropy")
    assert listed["dit"].scores == ("influence",)
    assert "paper-n4" in listed["flux"].presets
    assert listed["flux"].architectures == ("flux-dev-1024",)
