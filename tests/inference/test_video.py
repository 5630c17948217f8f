import cv2
import numpy as np
import pytest
import torch

from lightning_seg.inference import overlay
from tests.inference.test_predict_files import PALETTE, Brightest, Multilabel, files, predict


def write_video(path, count=3, size=(24, 32), rate=10.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, size[::-1])
    for index in range(count):
        frame = np.zeros((*size, 3), np.uint8)
        frame[:, : size[1] // 2, index % 3] = 220
        frame[:, size[1] // 2 :, (index + 1) % 3] = 220
        writer.write(frame)
    writer.release()


def frames(path):
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        there, frame = capture.read()
        if not there:
            return np.stack(found)[..., ::-1], capture.get(cv2.CAP_PROP_FPS)
        found.append(frame)


@pytest.mark.parametrize("options", [{}, {"scale": 0.5, "tiling": "smooth", "tile": 16, "margin": 2}])
def test_a_videos_frames_come_out_with_their_masks_over_them(tmp_path, options):
    module = Brightest().eval()
    write_video(tmp_path / "clip.avi")
    assert predict(module, tmp_path / "clip.avi", tmp_path / "out", **options).written == 1
    assert files(tmp_path / "out") == ["clip_overlay.mp4"]
    given, _ = frames(tmp_path / "clip.avi")
    drawn, rate = frames(tmp_path / "out" / "clip_overlay.mp4")
    assert (drawn.shape, rate) == (given.shape, 10.0)
    for one, other in zip(given, drawn, strict=True):
        image = torch.from_numpy(one.copy()).movedim(-1, 0) / 255
        expected = overlay(image, module(image[None]).argmax(1)[0].numpy(), PALETTE)
        assert np.abs(expected.astype(int) - other).mean() < 8  # of 255, of a lossy codec
    assert predict(module, tmp_path / "clip.avi", tmp_path / "out", resume=True).kept == 1


def test_what_is_no_video_or_ends_too_early_is_skipped_with_the_reason(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    write_video(tmp_path / "cut.avi", count=40)
    (tmp_path / "list.txt").write_text("text.mp4\nplaylist.mp4\ncut.avi\n")
    write_video(tmp_path / "other.avi")
    (tmp_path / "playlist.mp4").write_text("ffconcat version 1.0\nfile 'other.avi'\n")  # which ffmpeg would follow
    whole = (tmp_path / "cut.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    failed = predict(Brightest().eval(), tmp_path / "list.txt", tmp_path / "out").failed
    reasons = {path.name: reason for path, reason in failed}
    assert "cannot be read as a video" in reasons["text.mp4"]
    assert "cannot be read as a video" in reasons["playlist.mp4"]
    assert "is damaged" in reasons["cut.avi"]
    assert not files(tmp_path / "out")


@pytest.mark.parametrize("asked", ["probabilities", "contours", "run_lengths", "areas"])
def test_what_is_not_written_of_a_video_is_refused(tmp_path, asked):
    write_video(tmp_path / "clip.avi")
    with pytest.raises(ValueError, match=f"only the overlay is written: leave {asked} out"):
        predict(Brightest().eval(), tmp_path / "clip.avi", tmp_path / "out", **{asked: True})


def test_several_labels_a_pixel_have_no_overlay_of_a_video(tmp_path):
    write_video(tmp_path / "clip.avi")
    with pytest.raises(ValueError, match="is a video"):
        predict(Multilabel().eval(), tmp_path / "clip.avi", tmp_path / "out", probabilities=True)
