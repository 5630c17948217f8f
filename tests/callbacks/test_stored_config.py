from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_seg.callbacks.stored_config import read_again
from lightning_seg.commands.evaluate import with_what_is_left_out
from lightning_seg.launch.resolved import from_environment


def stored(data: dict[str, Any], *hidden: str) -> dict[str, Any]:
    config = {"module": {"_target_": "a"}, "data": data, "trainer": {"precision": 32}, "runs": "/home/me/runs"}
    return read_again(config, hidden)["data"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/me/images", "???"),
        (["a", "/home/me/b"], "???"),
        ({"train": "/lists/train.txt", "val": "val.txt"}, {"train": "???", "val": "val.txt"}),
        ("images", "images"),
        ("~/images", "~/images"),
        ([0.5, 0.25], [0.5, 0.25]),
        (None, None),
    ],
)
def test_a_checkpoint_does_not_tell_absolute_paths(value: Any, kept: Any) -> None:
    assert stored({"root": value}) == {"root": kept}


def test_a_checkpoint_does_not_tell_values_of_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    data = {"token": "${local.token}", "names": ["${data.token}", "b"], "nested": "${copy}", "open": "${other}"}
    config = OmegaConf.create(
        {"local": {"token": "a-${oc.env:TOKEN}"}, "other": 3, "copy": {"part": "${data.token}"}, "data": data}
    )
    hidden = from_environment(config)
    assert hidden == {
        "copy.part": "a-${oc.env:TOKEN}",
        "data.names": ["a-${oc.env:TOKEN}", "b"],
        "data.nested.part": "a-${oc.env:TOKEN}",
        "data.token": "a-${oc.env:TOKEN}",
        "local.token": "a-${oc.env:TOKEN}",
    }
    resolved = OmegaConf.to_container(config.data, resolve=True)
    assert isinstance(resolved, dict)
    assert resolved["token"] == "a-secret"
    assert stored({str(key): value for key, value in resolved.items()}, *hidden) == {
        **{"token": "???", "names": "???", "nested": {"part": "???"}, "open": 3}
    }
    assert from_environment(OmegaConf.create({"a": 1})) == {}


def test_a_checkpoint_does_not_tell_secrets() -> None:
    assert stored({"api_key": "abc", "pad_token": "x", "part": {"token": "abc"}, "password": None}) == {
        **{"api_key": "???", "pad_token": "x", "part": {"token": "???"}, "password": None}
    }


def test_an_evaluation_finds_them_beside_the_checkpoint_or_asks_for_them(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run/checkpoints/best.ckpt"
    data = {"root": "???", "splits": {"train": "???", "val": "val.txt"}}
    with pytest.raises(
        ValueError, match=r"data\.root must be given: .*best\.ckpt stores nothing that is specific to the machine"
    ):
        with_what_is_left_out(data, str(checkpoint))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("data: {root: /data, splits: {train: /a.txt, val: b.txt}}")
    found = with_what_is_left_out(data, str(checkpoint))
    assert found == {"root": "/data", "splits": {"train": "/a.txt", "val": "val.txt"}}
    (tmp_path / "run/config.yaml").write_text("data: {root: '${oc.env:DATA}', num_workers: '${oc.env:CORES}'}")
    with pytest.raises(ValueError, match=r"data\.root must be given: .*as data\.root='\$\{oc\.env:DATA\}', which"):
        with_what_is_left_out({"root": "???"}, str(checkpoint))
    assert with_what_is_left_out({"num_workers": "???"}, str(checkpoint)) == {}
    assert with_what_is_left_out({"root": "given", "splits": None}, str(tmp_path / "a.ckpt")) == {
        **{"root": "given", "splits": None}
    }
