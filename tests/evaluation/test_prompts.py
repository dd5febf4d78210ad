"""What is drawn, and from which seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tocache.errors import OptionError
from tocache.evaluation.prompts import Task, batch_arguments, real_features, scenes_for, tasks_for
from tocache.generation.batches import pictures_of


@pytest.fixture
def pipe(case):
    return case.make()


def test_prompts_of_a_file(pipe, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a fox\n\n  a red circle  \n", encoding="utf-8")
    assert tasks_for(pipe, "some/folder", file, 7) == [Task("a fox", 7), Task("a red circle", 8)]
    file.write_text("\n")
    with pytest.raises(OptionError, match="holds no prompt"):
        tasks_for(pipe, "some/folder", file, 0)
    with pytest.raises(OptionError, match="cannot be read"):
        tasks_for(pipe, "some/folder", tmp_path / "absent.txt", 0)
    with pytest.raises(OptionError, match="give a file"):
        tasks_for(pipe, "some/folder", 4, 0)


def test_prompts_of_the_world(case, pipe):
    tasks = tasks_for(pipe, "demo:random-text", 3, 0)
    assert [task.seed for task in tasks] == [0, 1, 2]
    if case.name == "dit":
        assert [task.prompt for task in tasks] == [0, 1, 2]
        assert tasks_for(pipe, "demo:random-class", 1, 0)[0].digit is None
    else:
        kinds = {claim.kind for task in tasks for claim in task.claims}
        assert ("motion" in kinds) == (case.name == "opensora")
        assert [task.prompt for task in tasks] == [scene.caption for scene in scenes_for(pipe, 3, 0)]


def test_a_call_draws_all_tasks_from_their_own_seeds(case, pipe):
    tasks = [Task(prompt, seed) for seed, prompt in enumerate(case.prompts[:2])]
    arguments = batch_arguments(pipe, tasks, {"steps": 3, "guidance": 2.0})
    assert arguments["num_inference_steps"] == 3
    assert arguments["guidance_scale"] == 2.0
    assert len(arguments.get("prompt", arguments.get("class_labels"))) == 2
    assert [g.initial_seed() for g in arguments["generator"]] == [0, 1]


def test_pictures_are_channels_first_between_0_and_1():
    class Output:
        images = np.full((2, 5, 7, 3), 1.5)

    assert pictures_of(Output()).shape == (2, 3, 5, 7)
    assert pictures_of(Output()).max() == 1

    class Clip:
        frames = torch.zeros(1, 4, 3, 6, 6, dtype=torch.bfloat16)

    assert pictures_of(Clip()).shape == (1, 4, 3, 6, 6)
    assert pictures_of(Clip()).dtype == torch.float32


def test_real_pictures_are_of_other_scenes(case, pipe):
    if case.name != "pixart":
        pytest.skip("one family will do")
    features = real_features(pipe, "demo:random-text", 3, 0, 128)
    assert features.shape == (3, 192)
    assert real_features(pipe, "demo:random-text", 3, 0, 100) is None
