"""The measures themselves: perfect on the rendered truth, nothing on a frozen face."""

import numpy as np
import pytest
import torch

from llia_core.evaluation import Case, Reader, closure_figures, correlation, make_case, sync_figures
from llia_core.face import FaceLandmarker
from llia_core.training.synth.portrait import ANIMATION, mouth_opening, render, sample_identities


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    with FaceLandmarker(max_faces=1) as landmarker:
        return [make_case(Reader(landmarker), index) for index in (0, 1)]


def test_the_reader_sees_the_true_opening():
    identity = sample_identities(1, torch.Generator().manual_seed(3))
    animation = torch.zeros(12, len(ANIMATION))
    animation[:, 0] = torch.linspace(0, 1, 12)
    frames = ((render(identity.expand(12), animation, clip=True) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1)
    with FaceLandmarker(max_faces=1) as landmarker:
        seen = Reader(landmarker)(frames)
    assert correlation(seen, mouth_opening(identity.expand(12), animation).numpy()) > 0.97


def test_truth_scores_full_marks_and_a_frozen_face_none(cases):
    truth = [case.truth for case in cases]
    figures = sync_figures(cases, truth)
    assert figures["mouth_correlation"] == pytest.approx(1) and figures["mouth_amplitude"] == pytest.approx(1)
    assert abs(figures["mouth_correlation_wrong_audio"]) < 0.5
    frozen = [np.full_like(t, 0.1) for t in truth]
    assert sync_figures(cases, frozen)["mouth_correlation"] == 0
    assert closure_figures(cases, frozen)["lip_closure"] == 0
    assert closure_figures(cases, truth)["lip_closure"] > 0.8
    shut = [np.full_like(t, case.rest) for t, case in zip(truth, cases, strict=True)]
    assert closure_figures(cases, shut)["lip_closure_chance"] == 1  # always shut is told by its chance level
