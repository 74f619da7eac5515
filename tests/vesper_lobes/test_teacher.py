import pytest
import torch

from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.compression import compress
from vesper_lobes.encoder import Encoder
from vesper_lobes.teacher import Teacher, load_teacher


def test_states_are_the_encoders_raw_ones(tiny_config):
    encoder = Encoder(tiny_config("wavlm_large")).eval()
    wavs, lens = torch.randn(2, 16000), torch.tensor([1.0, 0.6])
    states = encoder(wavs, lens).states
    frames = [49, 29]
    for ours, theirs in zip(Teacher(encoder)(wavs, lens), (states[2], states[4]), strict=True):
        for row, length in enumerate(frames):
            difference = (ours[row, :length] - theirs[row, :length]).abs().max()
            assert (
                difference <= 1e-5 * theirs[row, :length].abs().max()
            )  # another path: no gradient


def test_a_shared_cnn_output_changes_nothing(tiny_config):
    teacher = Teacher(Encoder(tiny_config("wavlm_large")))
    student, _ = compress(teacher.encoder, 2)
    wavs, lens = torch.randn(2, 16000), torch.tensor([1.0, 0.6])
    shared = student.freeze_cnn().cnn(wavs, lens)
    for one, other in zip(teacher(wavs, lens), teacher(None, None, shared), strict=True):
        assert torch.equal(one, other)


def test_sharing_is_checked(tiny_config):
    teacher = Teacher(Encoder(tiny_config("wavlm_large")))
    student, _ = compress(teacher.encoder, 2)
    assert teacher.shares_cnn_with(student)
    other, _ = compress(teacher.encoder, 2, "random", random_cnn=True)
    assert not teacher.shares_cnn_with(other)
    flag = Encoder(tiny_config("wavlm_large", do_normalize=False))
    flag.load_state_dict(teacher.encoder.state_dict())
    assert not teacher.shares_cnn_with(flag)
    assert not teacher.shares_cnn_with(Encoder(tiny_config("wavlm_base")))
    with torch.no_grad():
        next(student.feature_extractor.parameters()).add_(1e-3)
    assert not teacher.shares_cnn_with(student)


def test_a_teacher_never_trains(tiny_config):
    teacher = Teacher(Encoder(tiny_config("wavlm_large", hidden_dropout=0.5)).train())
    assert not isinstance(teacher, torch.nn.Module)
    teacher.encoder.train()
    wavs = torch.randn(1, 8000)
    assert torch.equal(teacher(wavs)[1], teacher(wavs)[1])
    assert not any(p.requires_grad for p in teacher.encoder.parameters())


def test_loading(tiny_config, tmp_path):
    save_encoder(Encoder(tiny_config("wavlm_base")), tmp_path)
    assert load_teacher(str(tmp_path)).num_layers == 4
    with pytest.raises(ValueError, match="do this"):
        load_teacher("", cure="do this")
