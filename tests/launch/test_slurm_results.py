import os
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("submitit")
from hydra.core.utils import JobReturn, JobStatus

from lightning_seg.launch.slurm import _sent, read_outcome


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def written(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_what_a_job_returns_is_read(tmp_path: Path) -> None:
    returned = JobReturn(overrides=["a=1"], status=JobStatus.COMPLETED)
    returned.return_value = 0.5
    outcome, read = read_outcome(written(tmp_path / "a.pkl", ("success", returned)))
    assert (outcome, read.status, read.return_value, read.overrides) == ("success", JobStatus.COMPLETED, 0.5, ["a=1"])
    assert read_outcome(written(tmp_path / "b.pkl", ("error", "Traceback"))) == ("error", "Traceback")


@pytest.mark.parametrize(
    "content", [("success", 3), ("success", {}), ("error", 1), ("error", " "), "text", 3, ("a", "b", "c"), os.mkdir]
)
def test_anything_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ValueError, match=r"a\.pkl is not the result of a job"):
        read_outcome(written(tmp_path / "a.pkl", content))


def test_code_in_a_result_is_not_run(tmp_path: Path) -> None:
    returned = JobReturn()
    returned.cfg = Harmful(tmp_path / "made")  # type: ignore[assignment]
    for content in (Harmful(tmp_path / "made"), ("success", Harmful(tmp_path / "made")), ("success", returned)):
        with pytest.raises(ValueError, match=r"is not the result of a job of this package: it names (posix|nt)\.mkdir"):
            read_outcome(written(tmp_path / "a.pkl", content))
    (tmp_path / "b.pkl").write_bytes(b"\x80")
    with pytest.raises(ValueError, match=r"b\.pkl is not the result"):
        read_outcome(tmp_path / "b.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    ["[]", '{"a": ["../1", 1]}', '{"a": ["1", 0]}', '{"a": [1, 1]}', '{"a": ["1"]}', '{"a": ["1", 1e9]}', '{"a": 3}'],
)
def test_jobs_are_numbers(tmp_path: Path, content: str) -> None:
    (tmp_path / "sent.json").write_text('{"a": ["12_3", 2], "b": ["7", 1]}')
    assert _sent(str(tmp_path / "jobs")) == {"a": ("12_3", 2), "b": ("7", 1)}
    (tmp_path / "sent.json").write_text(content)
    with pytest.raises(ValueError, match=r"sent\.json is not the list of jobs"):
        _sent(str(tmp_path / "jobs"))
