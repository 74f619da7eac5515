"""The YAML files: the paper's numbers, sources for all, no key unused."""

import re
from pathlib import Path

import pytest
import yaml
from hyperpyyaml import resolve_references

RECIPES = Path(__file__).resolve().parents[3] / "recipes" / "LSSED"
FILES = sorted(RECIPES.rglob("hparams/*.yaml"))
OVERRIDES = {"data_folder": "/speech", "teacher": "/teacher"}


class Plain(yaml.SafeLoader):
    """Reads HyperPyYAML's tags as plain values."""


def plain_value(loader, suffix, node):
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


Plain.add_multi_constructor("!", plain_value)


def settings(path):
    with open(path, encoding="utf-8") as file:
        known = {name: OVERRIDES[name] for name in OVERRIDES if f"\n{name}:" in path.read_text()}
        return yaml.load(resolve_references(file, known), Plain)


def test_there_are_eight():
    assert len(FILES) == 8


@pytest.mark.parametrize("name, layers", [("vesper4", 4), ("vesper12", 12)])
def test_table_one_to_the_digit(name, layers):
    found = settings(RECIPES / f"pretrain/hparams/{name}.yaml")
    table = dict(
        number_of_epochs=100,
        warmup_epochs=5,
        batch_size=32,
        lr=5e-4,
        min_lr=5e-6,
        weight_decay=0.01,
        crop_seconds=5.0,
        loss_weights={"l": 1.0, "h": 0.1, "x": 1.0},
        phoneme_positions=20,
        word_positions=4,
        positions="paper",
        schedule_per="epoch",
        num_layers=layers,
        method="extraction",
    )
    assert {name: found[name] for name in table} == table
    assert found["opt_class"]["betas"] == [0.9, 0.999]
    assert found["masker"]["phoneme_span"] == 8 and found["masker"]["word_span"] == 40
    text = (RECIPES / f"pretrain/hparams/{name}.yaml").read_text()
    assert "microsoft/wavlm-large" in text and "AdamW" in text


def test_the_mini_masks_scale_with_the_crop():
    assert settings(RECIPES / "pretrain/hparams/vesper_mini.yaml")["positions"] == "scaled"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_launch_command_heads_the_file(path):
    banner = path.read_text().split("\nseed:")[0]
    assert f"python train.py hparams/{path.name}" in banner


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_names_its_source(path):
    section = path.read_text().split("\nseed:")[1].split("# ---- Objects")[0]
    for line in ("seed:" + section).splitlines():
        if re.match(r"^\w+:\s*[\[{]?-?\d", line):
            assert "#" in line, f"no source: {line}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_is_used(path):
    text = path.read_text()
    code = (path.parents[1] / "train.py").read_text()
    for lobe in (
        "logged_brain",
        "pretrain_brain",
        "distill_brain",
        "masked_prediction_brain",
        "pretrain_run",
    ):
        code += (RECIPES.parents[1] / f"vesper_lobes/{lobe}.py").read_text()
    options = {"precision", "optimizer_step_limit", "ckpt_interval_minutes", "max_grad_norm"}
    options |= {"grad_accumulation_factor", "find_unused_parameters", "__set_seed"}
    for key in re.findall(r"^(\w+):", text, re.M):
        used = f"<{key}>" in text or f'"{key}"' in code or f"hparams.{key}" in code
        assert used or key in options, key


@pytest.mark.parametrize("name", ["vesper4", "vesper12", "vesper_mini"])
def test_distillation_hears_what_pretraining_hears(name):
    """Same data, crops, optimizer and teacher; only the length of training is its own."""
    distill, pretrain = (
        settings(RECIPES / f"{task}/hparams/{name}.yaml") for task in ("distill", "pretrain")
    )
    differing = {key for key in distill if distill[key] != pretrain.get(key)}
    own = {"tau", "num_outputs", "student", "number_of_epochs", "num_steps"}
    derived = {"warmup_steps", "optimizer_step_limit", "scheduler", "epoch_counter"}
    derived |= {"modules", "checkpointer"}  # they hold the student
    assert differing <= own | derived
