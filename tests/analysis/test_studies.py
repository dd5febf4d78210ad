"""The studies against what can be known without them, on miniatures of four families."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import tocache
from tocache.analysis import Subject, propagation, redundancy, scores, selection, sensitivity
from tocache.analysis.oracle import Kept, Setting, find_benefits
from tocache.analysis.propagation import own_share
from tocache.analysis.redundancy import BINS, QUANTILES
from tocache.analysis.scores import PUBLISHED, captured
from tocache.analysis.sensitivity import Served, _replay, places_to_probe
from tocache.errors import OptionError, RunError
from tocache.methods import FORA, Composed, Placed, Uncached
from tocache.plan import Every

COLUMNS = ["step", "site", "kind", "group", "stack", "block", "mean", "p5", "p25", "p50", "p75", "p95"]


def outputs_of(subject, method):
    """(step, pass, site) → what it gave, in a run of its own."""
    seen = {}

    def note(step, number, site, value):
        seen[step, number, site] = value.clone()

    drawn = subject.draw(method, on_output=note)
    return seen, drawn


class TestSubject:
    def test_what_was_enabled_stays_so(self, subject_of):
        subject = subject_of("dit")
        with tocache.enabled(subject.pipe, FORA(3)):
            selection(subject)
            assert tocache.report(subject.pipe).method == "FORA()"
        with pytest.raises(tocache.NotEnabledError):
            tocache.report(subject.pipe)

    def test_every_run_draws_the_same(self, subject_of, family):
        subject = subject_of(family, 2)
        one, other = (subject.draw(Uncached()).pictures for _ in range(2))
        assert torch.equal(one, other)
        assert len(one) == 2

    def test_what_cannot_be_is_refused(self, subject_of):
        pipe = subject_of("dit").pipe
        for options, message in (({"prompts": []}, "at least one"), ({"prompts": [1], "steps": 0}, "steps=0")):
            with pytest.raises(OptionError, match=message):
                Subject(pipe, **options)
        with pytest.raises(OptionError, match="prompts=0"):
            Subject.load("demo:random-class", prompts=0)

    def test_the_guidance_is_the_callers_or_the_pipelines(self, subject_of):
        assert subject_of("dit").guidance == 4.0
        assert subject_of("pixart").guidance == 4.5
        assert subject_of("pixart", guidance=2.0).guidance == 2.0


class TestRedundancy:
    def test_the_figures_are_those_of_the_features(self, subject_of, family):
        subject = subject_of(family, 2)
        found = redundancy(subject)
        seen, drawn = outputs_of(subject, Uncached())
        for i, site in enumerate(found.sites):
            for step in (1, 5, drawn.plan.steps - 1):
                distances, multiples = [], []
                for number in range(drawn.plan.passes):
                    last, now = seen[step - 1, number, site.name], seen[step, number, site.name]
                    moved, long = (now - last).norm(dim=-1), last.norm(dim=-1).mean(dim=1, keepdim=True)
                    distances.append((moved / long).flatten())
                    # the empty prompt's only token gives all image tokens the same: nothing moves, of no mean
                    multiples += [row / row.mean() for row in moved if row.any()]
                assert found.mean[step - 1, i] == pytest.approx(torch.cat(distances).mean().item(), rel=1e-4)
                multiple = torch.cat(multiples).numpy()
                np.testing.assert_allclose(found.quantiles[step - 1, i], np.quantile(multiple, QUANTILES), rtol=1e-4)
                counts = np.histogram(multiple.clip(BINS[0], BINS[-1]), BINS)[0]
                assert np.abs(found.counts[step - 1, i] - counts).sum() <= 2  # a rounding at an edge
        assert (found.spread >= 1).all()

    def test_two_passes_count_both(self, subject_of):
        """FLUX with a true guidance runs two passes; tokens of both are counted."""
        call = {"max_sequence_length": 16, "height": 128, "width": 128, "true_cfg_scale": 2.0}
        one = redundancy(subject_of("flux"))
        two = redundancy(subject_of("flux", call=call | {"negative_prompt": ["sea"]}))
        assert (two.counts.sum(axis=2) == 2 * one.counts.sum(axis=2)).all()

    def test_the_table_says_it_all(self, subject_of, tmp_path):
        found = redundancy(subject_of("pixart"))
        found.save(tmp_path / "new" / "redundancy.csv")
        with (tmp_path / "new" / "redundancy.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 11 * 12
        assert list(rows[0]) == COLUMNS
        last = rows[-1]
        assert (last["step"], last["site"], last["kind"]) == ("11", "transformer_blocks.3.ff", "mlp")
        assert float(last["mean"]) == pytest.approx(found.mean[-1, -1], rel=1e-4)
        about = json.loads((tmp_path / "new" / "redundancy.json").read_text())
        assert about["steps"] == 12
        assert about["study"] == "redundancy"
        assert about["seeds"] == [0]


class TestPropagation:
    def test_an_error_is_what_the_noise_does(self, subject_of):
        """Noise put on by hand, in a run of its own, moves the answer of that step as far."""
        subject = subject_of("dit", guidance=1.0)
        found = propagation(subject, steps=1, tokens=4, strength=0.3)
        (step,) = found.steps
        answers = []

        def run(noise):
            def disturb(at, number, site, value):
                if noise is None or (at, site) != (step, found.sites[1].name):
                    return None
                return value + noise

            def keep(forward):
                output = forward.make()
                if forward.step == step:
                    answers.append(output[0][:, :4])
                return output

            subject.draw(Uncached(), on_output=disturb, on_forward=keep)

        seen, _ = outputs_of(subject, Uncached())
        value = seen[step, 0, found.sites[1].name]
        direction = torch.randn(value.shape[-1], generator=torch.Generator().manual_seed(0))
        noise = torch.zeros_like(value)
        noise[:, found.tokens[2]] = 0.3 * value.norm(dim=-1).mean() * direction / direction.norm()
        run(None)
        run(noise)
        plain, noisy = answers
        assert found.error[0, 1, 2] == pytest.approx(float((noisy - plain).norm() / plain.norm()), rel=1e-3)

    def test_of_the_last_mlp_all_of_it_stays_where_it_was(self, subject_of):
        """Nothing mixes tokens behind it: DiT's and PixArt's last MLP."""
        for family in ("dit", "pixart"):
            found = propagation(subject_of(family), steps=2, tokens=5)
            np.testing.assert_allclose(found.own[:, -1], 1.0, atol=1e-5)
            assert (found.own[:, 0] < 0.999).all()
            assert found.error.shape == (2, 4, len(found.tokens))
            assert (found.ratio >= 1).all()

    def test_tokens_of_a_joint_stream_are_those_of_the_image(self, subject_of):
        """FLUX's last single-stream block: the error lies at the image token that was meant, behind the text's."""
        found = propagation(subject_of("flux"), kinds=["parallel"], steps=1, tokens=3)
        np.testing.assert_allclose(found.own[:, -1], 1.0, atol=1e-5)

    def test_kinds_and_numbers_that_cannot_be(self, subject_of):
        subject = subject_of("dit")
        for options, message in (
            ({"kinds": ["cross-attention"]}, "mlp, self-attention"),
            ({"strength": 0.0}, "above 0"),
            ({"tokens": 0}, "tokens=0"),
            ({"steps": 0}, "steps=0"),
        ):
            with pytest.raises(OptionError, match=message):
                propagation(subject, **options)

    def test_the_arrays_come_back(self, subject_of, tmp_path):
        found = propagation(subject_of("dit"), steps=1, tokens=4)
        found.save(tmp_path / "propagation.npz")
        with np.load(tmp_path / "propagation.npz") as arrays:
            assert set(arrays) == {"steps", "sites", "kinds", "blocks", "tokens", "shape", "error", "own"}
            np.testing.assert_allclose(arrays["error"], found.error, rtol=1e-6)
            assert arrays["sites"].tolist() == [f"transformer_blocks.{b}.ff" for b in range(4)]

    def test_places_of_answers(self):
        latents = torch.zeros(1, 4, 8, 8)
        latents[0, :, 2:4, 6:8] = 1.0  # token 1·4 + 3 of a grid of 4 × 4
        assert own_share(latents, (4, 4), 7) == pytest.approx(1)
        assert own_share(latents, (4, 4), 6) == 0
        tokens = torch.zeros(1, 5, 3)
        tokens[0, 1:3] = 2.0
        assert own_share(tokens, None, 2) == pytest.approx(0.5)
        video = torch.zeros(1, 4, 2, 4, 4)
        video[0, 0, 1, :2, 2:] = 3.0
        assert own_share(video, (2, 2, 2), 5) == pytest.approx(1)
        assert np.isnan(own_share(torch.ones(1, 4, 7, 7), (4, 4), 0))


class TestSensitivity:
    @pytest.mark.parametrize("family", ["dit", "pixart", "flux"])
    def test_it_is_what_serving_the_site_does(self, subject_of, family):
        """Each probe against a whole run with the same plan, none of whose steps is replayed."""
        subject = subject_of(family)
        found = sensitivity(subject, probes=6)
        plain = subject.draw(Uncached()).pictures
        places = np.argwhere(np.isfinite(found.probed))
        assert len(places) == 6
        for step, i in places:
            moved = subject.draw(Served(int(step), found.sites[i].name)).pictures - plain
            assert found.probed[step, i] == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-3, abs=1e-9)

    @pytest.mark.parametrize("family", ["dit", "flux"])
    def test_the_answers_error_is_that_of_a_run_that_serves_the_site(self, subject_of, family):
        subject = subject_of(family, guidance=1.0)
        found = sensitivity(subject, probes=1)
        for step, i in ((2, 0), (6, 3), (11, len(found.sites) - 1)):
            answers = []
            for method in (Uncached(), Served(step, found.sites[i].name)):

                def keep(forward, step=step, answers=answers):
                    output = forward.make()
                    if forward.step == step:
                        answers.append(output[0][:, :4] if family == "dit" else output[0])
                    return output

                subject.draw(method, on_forward=keep)
            error = float((answers[1] - answers[0]).norm() / answers[0].norm())
            assert found.error[step, i] == pytest.approx(error, rel=2e-3)

    def test_replayed_steps_compute_nothing(self, subject_of):
        subject, ran = subject_of("dit"), []
        hook = subject.pipe.transformer.pos_embed.register_forward_hook(lambda *_: ran.append(1))
        outputs = {}

        def keep(forward):
            outputs[forward.step, forward.number] = forward.make()
            return outputs[forward.step, forward.number]

        try:
            subject.draw(Uncached(), on_forward=keep)
            ran.clear()
            served = Served(9, "transformer_blocks.1.ff")
            subject.draw(served, on_forward=lambda forward: _replay(outputs, 9, forward))
        finally:
            hook.remove()
        assert len(ran) == 4  # steps 8 to 11

    def test_estimates_are_errors_times_the_gain_of_their_step(self, subject_of):
        found = sensitivity(subject_of("dit", steps=9), probes=12)
        known = np.isfinite(found.probed)
        np.testing.assert_array_equal(found.loss[known], found.probed[known])
        np.testing.assert_allclose(found.loss[~known], (found.error * found.gain[:, None])[~known])
        step = int(np.argwhere(known)[0, 0])
        ratios = found.probed[step][known[step]] / found.error[step][known[step]]
        assert found.gain[step] == pytest.approx(float(np.exp(np.log(ratios).mean())))
        ratio, rank = found.check()
        assert ratio >= 1
        assert -1 <= rank <= 1

    def test_probes_are_as_many_as_asked_for_and_spread(self):
        for steps, sites, probes in ((20, 36, 32), (50, 24, 32), (12, 8, 5), (4, 3, 7)):
            places = places_to_probe(steps, sites, probes)
            assert len(set(places)) == len(places) == min(probes, (steps - 1) * sites)
            assert all(1 <= step < steps and 0 <= i < sites for step, i in places)
        assert len(places_to_probe(12, 8, None)) == 11 * 8
        assert {step for step, _ in places_to_probe(20, 36, 32)} == {2, 4, 6, 9, 11, 14, 16, 18}
        assert len({i for _, i in places_to_probe(20, 36, 32)}) >= 30

    def test_one_step_has_nothing_to_serve(self, subject_of):
        with (
            pytest.warns(tocache.TocacheWarning, match="little to save"),
            pytest.raises(OptionError, match="at least 2"),
        ):
            sensitivity(subject_of("dit", steps=1))


class TestSelection:
    def test_it_shows_the_choices(self, subject_of, family):
        subject = subject_of(family, 2)
        found = selection(subject)
        one = subject.first()
        drawn = one.draw(tocache.ToCa())
        assert len(found.pictures) == 1
        anatomy = drawn.plan.anatomies[0]
        for step, number, site in drawn.choices.choices:
            k = [s.name for s in found.sites].index(site) if site in [s.name for s in found.sites] else None
            if k is None or number:
                continue
            index = drawn.choices.choices[step, number, site]
            text = anatomy.tokens(found.sites[k]) - anatomy.shape.tokens["image"]
            rows = torch.zeros(len(index), anatomy.tokens(found.sites[k])).scatter(1, index, 1.0)
            share = rows[:, text:].mean(dim=0).numpy()
            np.testing.assert_allclose(found.fresh[step, k] / 255, share, atol=1 / 255)
            assert found.computed[step, k] == index.shape[1]
        assert (found.fresh[0] == 255).all()
        assert found.partial_steps

    def test_a_method_without_choices_is_refused(self, subject_of):
        with pytest.raises(RunError, match="no choice to show"):
            selection(subject_of("dit"), Placed((0, 3, 6), 12))

    def test_the_shares_of_chosen_tokens_add_up(self, subject_of):
        found = selection(subject_of("pixart"), tocache.ToCa(interval=3, fresh_ratio=0.2))
        choices = found.computed > 0
        assert found.chosen.sum() == pytest.approx(found.computed[choices].mean(), rel=0.01)


class TestScores:
    SETTING = Setting(interval=3, steps=2, sites=2, kinds=("mlp",), tokens=9)

    def test_reuse_by_hand_is_reuse(self, subject_of, family):
        """All outputs of the steps between are those of the full step before, and the picture is FORA's."""
        subject = subject_of(family)
        by_hand = subject.draw(Uncached(), on_output=Kept(self.SETTING).give).pictures

        served = subject.draw(Composed(Every(3))).pictures
        torch.testing.assert_close(by_hand, served, rtol=1e-5, atol=1e-5)

    def test_a_benefit_is_what_computing_that_token_brings(self, subject_of):
        """The whole error goes where all tokens are computed at all layers; one token's share is found by hand."""
        subject = subject_of("dit", guidance=1.0)
        found = find_benefits(subject, self.SETTING)
        place = sorted(found.benefit)[0]
        step, _, i = place
        site = found.drawn.plan.sites[i].name
        kept, answers = Kept(self.SETTING), {}

        def answer(name, forward):
            answers[name] = forward.make()[0][:, :4]

        def by_hand(forward):
            if forward.step != step:
                return forward.make()
            kept.serving = False
            answer("true", forward)
            kept.serving = True
            kept.through = (site, int(found.tokens[4]))
            answer("one", forward)
            kept.through = None
            output = forward.make()
            answers["served"] = output[0][:, :4]
            return output

        subject.draw(Uncached(), on_output=kept.give, on_forward=by_hand)
        before = (answers["served"] - answers["true"]).square().sum()
        after = (answers["one"] - answers["true"]).square().sum()
        assert found.benefit[place][0, 4] == pytest.approx(float(1 - after / before), abs=1e-4)
        assert float(before) > 0

    @pytest.mark.parametrize("family", ["dit", "pixart", "flux"])
    def test_tables_for_every_score_the_model_can_give(self, subject_of, family):
        found = scores(subject_of(family, 2), steps=1, sites=1, tokens=6)
        wanted = {"influence", "value-norm", "key-norm", "norm", "similarity", "drift", "random", PUBLISHED}
        wanted |= {"entropy"} if family == "pixart" else set()
        assert set(found.correlation) == wanted
        for name, values in found.correlation.items():
            assert values.shape == (len(found.places), 2)
            assert (np.abs(values) <= 1 + 1e-9).all(), name
            assert (found.captured[name][np.isfinite(found.captured[name])] <= 1 + 1e-9).all()
            assert len(np.unique(found.ranks[name][0, 0])) == len(found.tokens)
        assert len(found.rows()) == len(wanted) * len(found.places) * 2

    def test_ranks_are_those_that_the_score_gives_in_a_served_step(self, subject_of):
        """The score `norm` by hand: the lengths of the site's input when everything before it is served."""
        subject = subject_of("pixart", guidance=1.0)  # its cross-attention reads the token stream itself
        found = scores(subject, ["norm"], kinds=["cross-attention"], steps=1, sites=2, tokens=64)
        seen = {}
        modules = dict(subject.pipe.transformer.named_modules())
        current = [0]

        def step_of(forward):
            current[0] = forward.step
            return forward.make()

        hooks = [
            modules[found.sites[i].name].register_forward_pre_hook(
                lambda _, args, i=i: seen.__setitem__((current[0], i), args[0])
            )
            for _, _, i in found.places
        ]
        try:
            subject.draw(Uncached(), on_output=Kept(self.SETTING).give, on_forward=step_of)
        finally:
            for hook in hooks:
                hook.remove()
        for k, (step, _, i) in enumerate(found.places):
            lengths = seen[step, i].norm(dim=-1)[0]
            order = lengths.argsort(descending=True, stable=True).tolist()
            ranks = [order.index(token) for token in found.tokens]
            assert found.ranks["norm"][k, 0].tolist() == ranks

    def test_what_a_choice_captures(self):
        benefit = np.array([4.0, 3.0, 2.0, 1.0, 0.0, 0.0, -1.0, -2.0])
        assert captured(benefit, benefit) == 1
        assert captured(-benefit, benefit) == pytest.approx(-3 / 7)
        assert captured(np.array([0, 9, 0, 8, 0, 0, 0, 0.0]), benefit) == pytest.approx(4 / 7)
        assert np.isnan(captured(benefit, -np.abs(benefit)))

    def test_what_cannot_be_is_refused(self, subject_of):
        subject = subject_of("dit")
        for options, message in (
            ({"names": ["lenght"]}, "'lenght' is not allowed; allowed: influence"),
            ({"interval": 1}, "interval=1"),
            ({"kinds": ["cross-attention"]}, "mlp, self-attention"),
            ({"interval": 9}, "after two full ones"),
        ):
            with pytest.raises(OptionError, match=message):
                scores(subject, **options)
        with pytest.raises(tocache.PlanError, match="no attention map"):
            scores(subject, ["entropy"], steps=1, sites=1, tokens=2)
