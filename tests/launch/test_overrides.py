import pytest
from omegaconf import OmegaConf

from lightning_seg.launch.overrides import literal

TEXTS = ["${oc.env:HOME}", "\\${oc.env:HOME}", "\\\\${x}", "$${x}", "${", "a\\b", "a", ""]


@pytest.mark.parametrize("value", [*TEXTS, TEXTS, {"a": [{"b": TEXTS[0]}], "c": 1.5, "d": None}], ids=str)
def test_a_literal_value_is_read_as_it_was(value: object) -> None:
    config = OmegaConf.create({"value": literal(value)})
    assert OmegaConf.to_container(config, resolve=True) == {"value": value}
