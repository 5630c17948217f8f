"""Research code composes our configuration with its own."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from lightning_seg import SegmentationModule

OWN = """
defaults:
  - train
  - override loss: dice
  - _self_

hydra:
  searchpath: [pkg://lightning_seg.conf]

module:
  class_names: [a, b, c, d, e, f]
my_own_key: 3
"""


def test_a_configuration_outside_the_package_extends_ours(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(OWN)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("study", ["optimizer=sgd"])
    assert config.my_own_key == 3
    assert config.loss._target_ == "lightning_seg.losses.DiceLoss"
    module = instantiate(config.module)
    assert isinstance(module, SegmentationModule)
    assert module.class_names == ["a", "b", "c", "d", "e", "f"]
