"""The input benchmark at a small size: its candidates are what they say."""

import json
import sys

import pytest
import torch


@pytest.fixture
def bench(benchmark_script):
    return benchmark_script("input")


def test_a_corpus_is_the_same_in_files_and_in_shards(bench, tmp_path):
    corpus = bench.write_corpus(tmp_path / "c", [1.0, 0.5, 0.7])
    read = {kind: [bench.read_audio(wav) for wav in rows["wav"]] for kind, rows in corpus.items()}
    assert [len(wave) for wave in read["wav"]] == [16000, 8000, 11200]
    for one, other, third in zip(*read.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2**-15)  # each rounds in its own way
        assert other.equal(third)


def test_both_datasets_hold_the_same_rows(bench):
    rows = bench.invented_rows(50)
    arrays, dictionaries = (bench.rows_as(kind, rows) for kind in ("arrays", "dictionaries"))
    items = {item["id"]: item["sig"] for item in dictionaries}
    assert items == {arrays[k]["id"]: arrays[k]["sig"] for k in range(50)}


def test_a_step_trains_the_student_alone(bench, monkeypatch):
    monkeypatch.setattr(bench, "CROP", 0.5)
    build, made = bench.build_student, []

    def kept(teacher, layers):
        made[:] = teacher, build(teacher, layers)
        return made[1]

    monkeypatch.setattr(bench, "build_student", kept)
    torch.manual_seed(0)
    step = bench.training_step("mini")
    teacher, student = made
    models = (teacher.encoder, student)
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    step()
    for model, old in zip(models, before, strict=True):
        moved = {k for k, v in model.state_dict().items() if not torch.equal(v, old[k])}
        trainable = {k for k, p in model.named_parameters() if p.requires_grad}
        assert moved <= trainable and bool(moved) == (model is student)


def test_buckets_pad_less(bench, tmp_path, monkeypatch):
    found = bench.measure_padding(tmp_path, count=40)
    assert 0 <= found["bucketed"] < 0.3 < found["as_they_come"]


def test_the_command_writes_json(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_memory", lambda counts: [{"rows": counts[0]}])
    arguments = ["input.py", "--sections", "memory", "--rows", "9", "--json", f"{tmp_path}/x.json"]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["memory"] == [{"rows": 9}] and "processor" in found["machine"]
