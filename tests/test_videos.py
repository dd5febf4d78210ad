"""Videos with and without the cache, from the random miniature of Open-Sora."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from PIL import Image, ImageSequence

from tocache.errors import OptionError
from tocache.generation import Generated, generate, psnr
from tocache.methods import PAB, ToCa, Uncached

VIDEO = "demo:random-video"
STEPS = 9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest resolution there is takes seconds; these tests want fractions of one."""
    monkeypatch.setattr("tocache.opensora.pipeline.video_size", lambda *_: (32, 48))


def draw(output: Path, **options: object) -> Generated:
    return generate("a red circle", output=output, model=VIDEO, steps=STEPS, duration="17", **options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:ftfy and beautifulsoup4")
class TestVideos:
    def test_an_mp4_holds_every_frame(self, tmp_path: Path) -> None:
        result = draw(tmp_path / "out.mp4", method=ToCa(3, 0.3))
        assert len(result.frames) == 17
        assert result.report.family == "opensora"
        assert result.report.steps_by_kind["partial"] > 0
        with av.open(str(result.output)) as file:
            frames = list(file.decode(video=0))
            assert file.streams.video[0].average_rate == 24
        assert len(frames) == 17
        assert (frames[0].width, frames[0].height) == (48, 32)
        decoded = frames[0].to_image()
        assert psnr(decoded, result.image) > 15  # of noise, compressed

    @pytest.mark.parametrize("suffix", [".gif", ".webp"])
    def test_animations_hold_every_frame(self, tmp_path: Path, suffix: str) -> None:
        result = draw(tmp_path / f"out{suffix}", method=PAB())
        with Image.open(result.output) as file:
            assert sum(1 for _ in ImageSequence.Iterator(file)) == 17

    def test_compare_puts_both_side_by_side(self, tmp_path: Path) -> None:
        result = draw(tmp_path / "out.webp", method=ToCa(3, 0.3), compare=True)
        assert len(result.uncached_frames) == 17
        assert result.psnr is not None
        assert result.psnr < float("inf")
        with Image.open(result.output) as file:
            assert file.size == (48 + 8 + 48, 32)

    def test_without_a_method_nothing_changes(self, tmp_path: Path) -> None:
        assert draw(tmp_path / "out.gif", method=Uncached(), compare=True).psnr == float("inf")

    def test_a_picture_file_is_refused_and_nothing_written(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"makes videos; allowed: \.mp4, \.gif, \.webp"):
            draw(tmp_path / "out.png")
        assert list(tmp_path.iterdir()) == []

    def test_an_impossible_duration_lists_what_is_allowed(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="2s, 4s, 8s, 16s"):
            generate("sea", output=tmp_path / "out.mp4", model=VIDEO, duration="3s")


def test_a_model_of_pictures_has_no_duration(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="num_frames"):
        generate("sea", output=tmp_path / "out.png", model="demo:random-text", duration="2s")
    with pytest.raises(OptionError, match="makes pictures"):
        generate("sea", output=tmp_path / "out.mp4", model="demo:random-text")
