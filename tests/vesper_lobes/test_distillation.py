"""The divergence of distillation, and its frozen head."""

import math

import pytest
import torch

from vesper_lobes.compression import compress
from vesper_lobes.distillation import DistillStudent, build_distill_student
from vesper_lobes.encoder import Encoder
from vesper_lobes.logged_brain import decay_groups
from vesper_lobes.teacher import Teacher


@pytest.fixture
def teacher(tiny_config):
    return Teacher(Encoder(tiny_config("wavlm_large")))


@pytest.fixture
def student(teacher):
    return build_distill_student(teacher, 2, num_outputs=64, tau=2.0, seed=7).eval()


def batch(teacher):
    """Front-end output of two rows, one of them half as long, and the teacher's last state."""
    wavs, wav_lens = torch.randn(2, 8000), torch.tensor([1.0, 0.5])
    features, lengths = teacher.encoder.cnn(wavs, wav_lens)
    return features, lengths, teacher(wavs, wav_lens)[1]


def test_divergence_is_the_written_one(teacher, student):
    """Against a loop over rows and frames in float64 by the definition."""
    features, lengths, target = batch(teacher)
    state = student.encoder.encode(features, lengths).states[-1]
    expected = []
    for row, length in enumerate(lengths.tolist()):
        for frame in range(length):
            p, q = (
                torch.softmax(student.head.weight.double() @ x[row, frame].double() / 2.0, 0)
                for x in (target, state)
            )
            expected.append(4 * (p * (p / q).log()).sum())
    result = student(features, lengths, target)
    expected = torch.stack(expected).mean().float()
    torch.testing.assert_close(result["kl"], expected, rtol=1e-4, atol=0)
    assert 0 < result["entropy"] <= 1 and result["error"] > 0


def test_a_student_that_is_its_teacher_has_no_loss(teacher):
    encoder, _ = compress(teacher.encoder, 4, layers=[1, 2, 3, 4])
    features, lengths, target = batch(teacher)
    result = DistillStudent(encoder.eval(), 64, 1.0, 0)(features, lengths, target)
    assert result["kl"].abs() < 1e-6 and result["error"] < 1e-9


def test_padding_is_not_counted(teacher, student):
    features, lengths, target = batch(teacher)
    loss = student(features, lengths, target)["kl"]
    target[1, lengths[1] :] = float("nan")
    assert torch.equal(student(features, lengths, target)["kl"], loss)


def test_the_head_is_frozen_and_drawn_from_the_seed_alone(teacher, student):
    torch.rand(3)  # the global generator has no say
    again = build_distill_student(teacher, 2, num_outputs=64, tau=1.0, seed=7)
    other = build_distill_student(teacher, 2, num_outputs=64, tau=1.0, seed=8)
    assert torch.equal(again.head.weight, student.head.weight)
    assert not torch.equal(other.head.weight, student.head.weight)
    trained = {id(p) for group in decay_groups(student, 0.5) for p in group["params"]}
    frozen = [student.head, student.encoder.feature_extractor]
    assert not any(id(p) in trained for module in frozen for p in module.parameters())


def test_every_trained_parameter_gets_a_gradient(teacher, student):
    """Or distributed training would wait for it."""
    student(*batch(teacher))["kl"].backward()
    assert not [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]


def test_the_gradient_does_not_shrink_with_the_temperature(teacher):
    norms = []
    for tau in (5.0, 50.0):
        student = build_distill_student(teacher, 2, num_outputs=64, tau=tau, seed=7).eval()
        student.encoder.load_state_dict(compress(teacher.encoder, 2)[0].state_dict())
        student(*batch(teacher))["kl"].backward()
        norms.append(student.encoder.feature_projection.projection.weight.grad.norm())
    assert 0.1 < norms[0] / norms[1] < 10


def test_bf16_keeps_the_divergence_in_float32(teacher, student):
    inputs = batch(teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = student(*inputs)["kl"]
    assert loss.dtype == torch.float32 and math.isfinite(loss.item())
    torch.testing.assert_close(loss, student(*inputs)["kl"], rtol=0.05, atol=0)


def test_a_temperature_must_be_positive(teacher):
    with pytest.raises(ValueError, match="tau must be above 0"):
        build_distill_student(teacher, 2, num_outputs=8, tau=0.0, seed=0)
