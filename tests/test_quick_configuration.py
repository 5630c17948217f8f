"""What tests compose in a fraction of the time is what Hydra composes."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

# The same choices with other values, and other choices with the same values, one after the other.
CHOICES = [
    ["seed=1"],
    ["loss=dice", "loss.smooth=2", "seed=1"],
    ["seed=2", "loss=dice", "+callbacks.one={_target_:x.Y}"],
    ["data=folder", "+data.values={1:0}", "~callbacks.pictures", "experiment=few_labels"],
    ["~backbone", "+backbone={_target_:x.Y}", "callbacks=no_pictures"],
    ["~backbone", "+backbone={_target_:x.Z}", "callbacks=no_pictures", "trainer=cpu"],
]
PROGRAM = """
import json, sys
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

with initialize_config_module("lightning_seg.conf", version_base="1.3"):
    for choices in json.load(sys.stdin):
        print(json.dumps(OmegaConf.to_container(compose("train", choices))))
"""


@pytest.mark.slow
def test_the_configurations_are_those_that_hydra_composes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(CHOICES), capture_output=True, text=True, check=True
    )
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(expected) == len(CHOICES)
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        for choices, of_hydra in zip(CHOICES, expected, strict=True):
            ours = OmegaConf.to_container(compose("train", choices))
            assert list(json.loads(json.dumps(ours)).items()) == list(of_hydra.items()), choices


def test_a_copy_of_a_part_keeps_its_flags_and_its_parent_and_is_independent() -> None:
    whole = OmegaConf.create({"size": 3, "part": {"of": "${size}", "several": [1, {"a": "${..[0]}"}]}})
    OmegaConf.set_readonly(whole.part, True)
    copied = deepcopy(whole.part)
    assert OmegaConf.is_readonly(copied)
    whole.size = 4
    assert OmegaConf.to_container(copied, resolve=True) == {"of": 4, "several": [1, {"a": 1}]}
    OmegaConf.set_readonly(copied, False)
    copied.of = copied.several[0] = 7
    assert OmegaConf.to_container(whole, resolve=True) == {"size": 4, "part": {"of": 4, "several": [1, {"a": 1}]}}
    several = deepcopy(whole.part.several)
    assert several == whole.part.several
    assert several is not whole.part.several
