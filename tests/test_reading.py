import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_seg.reading import as_yaml, open_regular, read_bytes, read_json, read_yaml

SHARED = [1.0, 2.0]
VALUES: dict[str, Any] = {
    "twice": {"a": SHARED, "b": [SHARED]},
    "floats": [1e-5, 0.1, -2.0, 1e20, float("inf")],
    "whole": [0, -3, 10**12],
    "texts": ["1e-3", "2024-01-15", "yes", "null", "0x1f", "1_0", "=", "<<", "~", "a: b", "straße", "1:30", ""],
    "none": None,
    "bool": True,
    "nested": {"a": [{"b": []}], "c": {}},
}


def test_a_configuration_is_read_as_omegaconf_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(VALUES), path)
    assert read_yaml(path) == VALUES == OmegaConf.to_container(OmegaConf.load(path))
    path.write_text(as_yaml(VALUES), encoding="utf-8")
    assert read_yaml(path) == VALUES == OmegaConf.to_container(OmegaConf.load(path))
    path.write_text("rate: 1e-3\nday: 2024-01-15\nhome: ${oc.env:HOME}\n")
    assert read_yaml(path) == {"rate": 1e-3, "day": "2024-01-15", "home": "${oc.env:HOME}"}


def aliases() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases(), r"line 2 refers to another part \(\*a0\)"),
        ("a: &a [*a]", "refers to another part"),
        ("[" * 100_000, "nest"),
        ("- " * 2000, "nested more than 64 deep"),
        ("{a: " * 100, "nested more than 64 deep"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!binary aGk=", "could not determine a constructor"),
        ("a: !!int x", "invalid literal"),
        ("a: " + "9" * 5000, "digits"),
        ("a: [", "cannot be read as YAML"),
        ("? [1]\n: 2", "unhashable"),
        ("a\0", "cannot be read as YAML"),
        ("#" * (2**20 + 1), "is larger than 1 MiB"),
    ],
)
def test_yaml_that_is_not_a_configuration_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"config.yaml .*{message}") as raised:
        read_yaml(tmp_path / "config.yaml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 0.5', "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"9" * 5000, "cannot be read as JSON"),
        (b"\xff", "is not UTF-8 text"),
        (b"", "cannot be read as JSON"),
        (b" " * (2**24 + 1), "is larger than 16 MiB"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json {message}"):
        read_json(tmp_path / "a.json")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (os.mkfifo, OSError, "is a named pipe, not a file"),
        (to_device, OSError, "is a device, not a file"),
        (os.mkdir, OSError, "is a directory, not a file"),
        (loop, OSError, "is a link that leads back to itself"),
        (dangling, FileNotFoundError, "is a link to nowhere, which does not exist"),
        (lambda path: None, FileNotFoundError, "does not exist"),
    ],
)
def test_what_is_not_a_file_is_named_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], error: type[OSError], message: str
) -> None:
    make(tmp_path / "a")
    with pytest.raises(error, match=message):
        open_regular(tmp_path / "a")


def test_names_that_are_too_long_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be read: file name too long"):
        read_bytes(tmp_path / ("x" * 300), 1)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    assert read_bytes(tmp_path / "b", 7) == b"content"
