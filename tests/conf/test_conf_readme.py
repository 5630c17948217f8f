"""conf/README.md says what the files say."""

from tests import conf_readme


def test_the_page_is_what_its_command_writes() -> None:
    page = conf_readme.README.read_text(encoding="utf-8")
    assert page == conf_readme.text(), "run python -m tests.conf_readme"


def test_every_file_has_a_section_and_every_option_a_row() -> None:
    lines = conf_readme.text().splitlines()
    for path in {*conf_readme.CONF.rglob("*.yaml")} - {conf_readme.MACHINE}:
        if path.parent != conf_readme.CONF:
            assert f"### {path.parent.relative_to(conf_readme.CONF).as_posix()}={path.stem}" in lines
    assert "| `loss.smooth` | `1.0` | added to both sides of the ratio |" in lines
    assert any(line.startswith("| `callbacks.ema.decay` | `0.999` | ") for line in lines)
    assert any(line.startswith("| `trainer.strategy.auto_wrap_policy.min_num_params` | `1000000` | ") for line in lines)
    assert any(line.startswith("| `loss` | `ce_dice` | ") for line in lines)
    assert any(line.startswith("| `module` |  | what is trained") for line in lines)
    assert "Starts from: `checkpoint`, `last`, `progress`, `curves`, `confusion`, `details`, `resource_usage`." in lines
    assert "Starts from: `override /augment: d4`, `override /loss: ce_dice`." in lines
