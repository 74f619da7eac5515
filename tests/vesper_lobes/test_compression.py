"""Which layers a student gets, and from where the bucket table comes."""

import logging

import pytest
import torch

from vesper_lobes.compression import compress, plan_layers
from vesper_lobes.encoder import Encoder

TABLE = "encoder.layers.0.attention.rel_attn_embed.weight"


def layer(encoder, number):
    """Parameters of layer ``number`` (1-based) but for the bucket table."""
    state = encoder.encoder.layers[number - 1].state_dict()
    return {name: t for name, t in state.items() if "rel_attn_embed" not in name}


@pytest.fixture
def teacher(tiny_config):
    return Encoder(tiny_config(num_hidden_layers=12)).eval()


@pytest.mark.parametrize(
    ("method", "num_layers", "expected"),
    [
        ("extraction", 4, [(1,), (7,), (13,), (19,)]),
        ("extraction", 12, [(n,) for n in range(1, 24, 2)]),
        ("averaging", 4, [tuple(range(n, n + 6)) for n in (1, 7, 13, 19)]),
        ("averaging", 12, [(n, n + 1) for n in range(1, 24, 2)]),
        ("random", 4, [()] * 4),
        ("distillation", 4, [()] * 4),
    ],
)
def test_source_layers_of_the_paper(method, num_layers, expected):
    assert list(plan_layers(24, num_layers, method).sources) == expected


def test_extraction_copies_the_layers(teacher):
    student, plan = compress(teacher, 4)
    assert plan.sources == ((1,), (4,), (7,), (10,))
    for index, (number,) in enumerate(plan.sources, start=1):
        for name, tensor in layer(student, index).items():
            assert torch.equal(tensor, layer(teacher, number)[name])
    assert torch.equal(student.masked_spec_embed, teacher.masked_spec_embed)


def test_averaging_is_the_mean_parameter_by_parameter(teacher):
    student, _ = compress(teacher, 6, "averaging")
    for name, tensor in layer(student, 2).items():
        torch.testing.assert_close(tensor, (layer(teacher, 3)[name] + layer(teacher, 4)[name]) / 2)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "extraction", "layers": [9, 10, 11, 12]},
        {"method": "averaging", "ranges": [(5, 6), (7, 8), (9, 10), (11, 12)]},
        {"method": "extraction"},
        {"method": "averaging"},
    ],
)
def test_bucket_table_always_comes_from_layer_one(teacher, options):
    student, _ = compress(teacher, 4, **options)
    assert torch.equal(student.state_dict()[TABLE], teacher.state_dict()[TABLE])


def test_custom_list_gives_custom_layers_first_layer_included(teacher):
    student, _ = compress(teacher, 2, layers=[5, 2])
    for index, number in ((1, 5), (2, 2)):
        for name, tensor in layer(student, index).items():
            assert torch.equal(tensor, layer(teacher, number)[name])


def test_student_of_the_first_layers_gives_the_teachers_states(teacher):
    student, _ = compress(teacher, 4, layers=[1, 2, 3, 4])
    wavs, wav_lens = torch.randn(2, 8000), torch.tensor([1.0, 0.5])
    ours, theirs = student(wavs, wav_lens).states, teacher(wavs, wav_lens).states
    for a, b in zip(ours, theirs[:5], strict=True):
        assert torch.equal(a, b)


def test_random_keeps_the_cnn_unless_told_otherwise(teacher):
    student, plan = compress(teacher, 4, "random")
    cnn = teacher.feature_extractor.state_dict()
    own = student.feature_extractor.state_dict()
    assert all(torch.equal(own[name], cnn[name]) for name in cnn)
    assert not torch.equal(student.state_dict()[TABLE], teacher.state_dict()[TABLE])
    assert "none of 12" in str(plan)
    student, _ = compress(teacher, 4, "random", random_cnn=True)
    name = "conv_layers.0.conv.weight"
    assert not torch.equal(student.feature_extractor.state_dict()[name], cnn[name])


def test_distillation_takes_the_whole_distilled_student(teacher):
    distilled, _ = compress(teacher, 4, "random")
    student, plan = compress(teacher, 4, "distillation", distilled=distilled, dropout=0.25)
    expected = distilled.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in student.state_dict().items())
    assert student.masked_spec_embed.data_ptr() != distilled.masked_spec_embed.data_ptr()
    assert student.config.hidden_dropout == 0.25
    assert str(plan) == "distillation (ours): 4 layers that imitated the teacher's"


def test_a_distilled_student_must_be_of_this_depth_and_teacher(teacher, tiny_config):
    def refused(distilled, message, method="distillation"):
        with pytest.raises(ValueError, match=message):
            compress(teacher, 4, method, distilled=distilled)

    refused(None, "recipes/LSSED/distill && python train.py.*--distilled FOLDER")
    refused(compress(teacher, 2, "random")[0], "has 2 layers, and num_layers is 4")
    refused(compress(teacher, 4, "random", random_cnn=True)[0], "imitated another")
    refused(Encoder(tiny_config(hidden_size=64)), "imitated another")
    refused(compress(teacher, 4, "random")[0], "goes with method 'distillation'", "extraction")


def test_student_shares_no_memory_with_the_teacher(teacher):
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    student, _ = compress(teacher, 4)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(t, before[name]) for name, t in teacher.state_dict().items())


def test_hubert_has_no_table_and_compresses(tiny_config):
    student, _ = compress(Encoder(tiny_config("hubert_large")), 2, "averaging")
    assert not any("rel_attn_embed" in name for name in student.state_dict())


def test_sources_are_logged(teacher, caplog):
    with caplog.at_level(logging.INFO):
        compress(teacher, 4)
    assert "4 of 12 layers <- 1, 4, 7, 10" in caplog.text


def test_dropout_override(teacher):
    student, _ = compress(teacher, 2, dropout=0.25)
    assert student.config.attention_dropout == 0.25
    assert student.encoder.layers[0].dropout.p == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "extraction"),
        ({"layers": [1, 2, 3]}, "3 source layers"),
        ({"layers": [1, 2, 3, 13]}, "1 to 12"),
        ({"layers": [0, 1, 2, 3]}, "1 to 12"),
        ({"method": "averaging", "layers": [1, 2, 3, 4]}, "extraction"),
        ({"ranges": [(1, 2)] * 4}, "averaging"),
        ({"method": "averaging", "ranges": [(2, 1), (1, 2), (1, 2), (1, 2)]}, "empty"),
    ],
)
def test_bad_requests_say_so(teacher, options, message):
    with pytest.raises(ValueError, match=message):
        compress(teacher, 4, **options)
