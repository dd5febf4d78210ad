"""HiDream's pictures that are no squares, whose tokens are padded."""

from __future__ import annotations

import tocache

from .miniatures.hidream import CASES

(HIDREAM,) = CASES


def test_padding_of_a_picture_is_neither_counted_nor_chosen() -> None:
    pipe = HIDREAM.make()
    tocache.enable(pipe, tocache.ToCa(3, 0.95))
    with tocache.trace(pipe) as trace:
        HIDREAM.draw(pipe, num_inference_steps=9, **HIDREAM.resized)
    (anatomy,) = trace.plan.anatomies
    tokens = anatomy.shape.tokens
    assert tokens["picture"] == 7 * 9 == tokens["image"] - 1
    padding = tokens["picture"]  # the index of the one token
    chosen = [index for (_, _, site), index in trace.choices.items() if site.endswith("ff_i")]
    assert chosen
    assert all((index != padding).all() for index in chosen)
    # of the joined stream as large a share of the picture's tokens is computed
    amounts = {len(index[0]) for index in chosen}
    assert max(amounts) < tokens["picture"]
