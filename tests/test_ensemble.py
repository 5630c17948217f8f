from pathlib import Path

import pytest
import torch

from lightning_seg import load_module
from lightning_seg.commands.arguments import as_typed
from lightning_seg.ensemble import Ensemble, load_modules
from lightning_seg.losses import CrossEntropyLoss
from tests.commands.test_evaluate_and_predict import planted
from tests.console import Run
from tests.small_module import Network, build


def members(count=3, classes=3, **arguments):
    torch.manual_seed(0)
    loss = CrossEntropyLoss(task=arguments.get("task", "multiclass"))
    return [build(Network(classes=classes), loss, ignore_index=None, **arguments).eval() for _ in range(count)]


@pytest.mark.parametrize(
    ("classes", "arguments"),
    [
        (3, {}),
        (3, {"task": "multilabel"}),
        (1, {"task": "binary", "num_classes": 1, "class_names": ["object"]}),
    ],
)
@torch.no_grad()
def test_its_probabilities_are_the_mean_of_those_of_its_members(classes, arguments):
    several = members(classes=classes, **arguments)
    image = torch.rand(2, 3, 7, 9)
    ensemble = Ensemble(several)
    mean = torch.stack([one.probabilities(one(image)) for one in several]).mean(0)
    torch.testing.assert_close(ensemble.probabilities(ensemble(image)), mean)
    later = Ensemble([lambda one=one: one for one in several])
    assert torch.equal(later(image), ensemble(image))
    assert not list(later.backbone)
    turned = ensemble.probabilities(ensemble.predict_logits(image))
    torch.testing.assert_close(turned, mean)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ["sky", "road", "lake"]}, r"class_names is \['sky', 'road', 'tree'\] and \['sky'"),
        ({"ignore_index": 7}, "ignore_index is None and 7"),
        ({"task": "multilabel"}, "task is multiclass and multilabel"),
    ],
)
def test_members_that_disagree_are_named_in_one_line(changed, message):
    one = members(1)[0]
    loss = CrossEntropyLoss(task=changed.get("task", "multiclass"), ignore_index=changed.get("ignore_index"))
    other = build(Network(), loss, **{"ignore_index": None, **changed})
    with pytest.raises(ValueError, match=f"a and b do not make an ensemble: {message}"):
        Ensemble([one, other], ["a", "b"])
    other = members(1)[0]
    other.scale = 0.5
    with pytest.raises(ValueError, match=r"scale is 1\.0 and 0\.5"):
        Ensemble([one, other])


def test_a_list_of_checkpoints_is_taken_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_typed(["checkpoint=[runs/lr=1/a.ckpt, b c.ckpt]"]) == ['checkpoint=["runs/lr=1/a.ckpt","b c.ckpt"]']


def test_commands_take_several_checkpoints(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    planted(tmp_path / "a.ckpt")
    planted(tmp_path / "b.ckpt", module={"num_classes": 6, "ignore_index": 255})
    content = torch.load("b.ckpt", weights_only=True)
    content["state_dict"]["backbone.bias"] = torch.arange(6.0)
    torch.save(content, "b.ckpt")
    Image.new("RGB", (9, 7), (200, 30, 90)).save("photo.png")
    for output, options in (("both", []), ("each", ["one_in_memory=true"])):
        run("lightning-seg-predict", "checkpoint=[a.ckpt,b.ckpt]", "input=photo.png", f"output={output}", *options)
    ensemble = load_modules(["a.ckpt", "b.ckpt"])
    assert (load_module("a.ckpt").predict("photo.png") == 0).all()
    expected = ensemble.predict("photo.png")
    assert (expected == 5).all()
    for output in ("both", "each"):
        assert set(Image.open(f"{output}/photo.png").tobytes()) == {5}
    printed = run("lightning-seg-evaluate", "checkpoint=[a.ckpt,b.ckpt]", "trainer.accelerator=cpu")
    assert "test scores" in printed
    assert "nowhere.ckpt" in fails("lightning-seg-evaluate", "checkpoint=[a.ckpt,nowhere.ckpt]")
