"""The fine-tuning benchmark at tiny sizes: the recipe's own cells, equality, openly computed."""

import json

import pytest


@pytest.fixture
def finetune(benchmark_script):
    return benchmark_script("finetune")


def test_a_small_run_adds_up(finetune, tmp_path, capsys):
    out = tmp_path / "finetune.json"
    finetune.main(["--small", "--sample", "2", "--json", str(out)])
    result = json.loads(out.read_text())
    # train and dev are four sessions of five, test is one: 5 folds x (2 epochs x 4/5 + 1/5)
    assert result["passes_saved"] == pytest.approx(5 * (2 * 4 / 5 + 1 / 5))
    encoder, total = result["encoder_pass_seconds"], result["total_seconds"]
    assert encoder["extrapolated"] == pytest.approx(50 * encoder["per_utterance"])
    assert total["cached"] == pytest.approx(encoder["extrapolated"] + result["heads_seconds"])
    assert result["relative_differences"]["gradients"] < 1e-4
    assert "computed: 9 passes" in capsys.readouterr().out


def test_the_size_is_iemocaps(finetune):
    corpus, states = finetune.invented_corpus(5531, 5, 8)
    assert sum(finetune.CLASSES.values()) == 5531 and states.shape == (5531, 5, 8)
    for fold in corpus.folds:
        assert not set(fold.train) & set(fold.dev) and len(fold.train) == pytest.approx(3319, abs=2)
