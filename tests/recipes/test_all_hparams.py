"""Every YAML of every recipe loads, builds its objects, and holds no key that nothing reads.

hyperpyyaml's ``!include:`` can only nest a file under a key, out of the command line's reach, so
each YAML is whole: one file to read and to copy. What keeps the copies from drifting apart is here:
siblings may differ in the encoder's keys, corpora in the corpus's, and in nothing else.
"""

import re
from pathlib import Path

import pytest
import yaml
from hyperpyyaml import load_hyperpyyaml
from recipe_runs import RECIPES, save_tiny_encoder

ROOT = RECIPES.parent
FILES = sorted(RECIPES.glob("**/hparams/*.yaml"))
CORPORA = ("IEMOCAP", "MELD", "CREMA-D", "RAVDESS")
PAPER_SIZES = ("vesper4", "vesper12", "wavlm_base", "wavlm_large")
TABLE_IV = ("IEMOCAP", "MELD", "CREMA-D"), ("shiftformer", "speechformer")
TABLE_IV_MINI = ("EmoDB", "RAVDESS"), ("shiftformer_mini", "speechformer_mini")
OF_THE_ENCODER = {
    "encoder",
    "teacher",
    "baselines",
    "ssl_saw_test_audio",
    "num_states",
    "input_dim",
    "output_folder",
}
OF_THE_CORPUS = {
    "corpus",
    "classes",
    "num_classes",
    "prepare",
    "crop_seconds",
    "bootstrap_unit",
    "selection_metrics",
    "labels",
    "actors",
}
OF_THE_OPTIMIZER = {"lr", "lr_final", "momentum", "opt_class"}
# SpeechBrain reads these itself, by name
OF_SPEECHBRAIN = {
    "precision",
    "grad_accumulation_factor",
    "max_grad_norm",
    "ckpt_interval_minutes",
    "optimizer_step_limit",
    "remove_vector_weight_decay",
    "find_unused_parameters",
}


def name_of(path):
    return path.relative_to(RECIPES).as_posix()


def keys_of(text):
    """Top-level keys of a YAML, in order."""
    return re.findall(r"^([A-Za-z_][\w-]*):", text, re.M)


def plain(path):
    """A YAML with its tags as text: what a reader sees, without comments."""

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader, suffix, node):
        kinds = {yaml.MappingNode: "mapping", yaml.SequenceNode: "sequence"}
        kind = kinds.get(type(node), "scalar")
        return (suffix, getattr(loader, f"construct_{kind}")(node))

    Loader.add_multi_constructor("!", tagged)
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def differing(first, second):
    first, second = plain(first), plain(second)
    return {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}


@pytest.fixture(scope="module")
def tiny_teacher(tmp_path_factory):
    return str(save_tiny_encoder(tmp_path_factory.mktemp("teacher"), layers=4))


def test_the_walk_finds_them_all():
    assert len(FILES) >= 30
    for corpus in CORPORA:
        names = {path.stem for path in (RECIPES / corpus / "emotion" / "hparams").iterdir()}
        assert {*PAPER_SIZES, "vesper_mini"} <= names
    for corpora, heads in (TABLE_IV, TABLE_IV_MINI):
        for corpus in corpora:
            names = {path.stem for path in (RECIPES / corpus / "emotion" / "hparams").iterdir()}
            assert set(heads) <= names


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_loads_builds_and_uses_every_key(path, tmp_path, tiny_teacher):
    text = path.read_text(encoding="utf-8")
    keys = keys_of(text)
    if "seed" not in keys:
        pytest.skip("no hparams of a Brain")
    overrides = {key: "given" for key in re.findall(r"^([\w-]+): !PLACEHOLDER", text, re.M)}
    overrides |= {"output_folder": str(tmp_path)}
    if "teacher_model" in keys:
        overrides |= {"teacher": tiny_teacher, "num_layers": 2}
    if "features" in keys:
        overrides |= {"input_dim": 64}  # set by a run, and 67 million parameters else
    hparams = load_hyperpyyaml(text, overrides)
    assert set(keys) - {"__set_seed"} == set(hparams)
    assert keys[:2] == ["seed", "__set_seed"]  # objects are built in the file's order
    assert text.startswith("# ####") and "python train.py hparams/" in text.split("seed:")[0]
    if "num_classes" in hparams and isinstance(hparams["classes"], list):
        assert hparams["num_classes"] == len(hparams["classes"])
    code = "".join(
        source.read_text(encoding="utf-8")
        for folder in (ROOT / "vesper_lobes", path.parents[1])
        for source in folder.glob("*.py")
    )
    unread = [
        key
        for key in set(hparams) - OF_SPEECHBRAIN
        if not re.search(rf"<{re.escape(key)}[>\[]|\"{re.escape(key)}\"", text + code)
        and f"hparams.{key}" not in code
    ]
    assert unread == []


@pytest.mark.parametrize("corpus", CORPORA)
def test_paper_sizes_differ_by_the_encoder_alone(corpus):
    folder = RECIPES / corpus / "emotion" / "hparams"
    for name in PAPER_SIZES:
        assert differing(folder / "vesper4.yaml", folder / f"{name}.yaml") <= OF_THE_ENCODER
    mini = differing(folder / "vesper4.yaml", folder / "vesper_mini.yaml")
    assert mini <= OF_THE_ENCODER | OF_THE_OPTIMIZER


@pytest.mark.parametrize("config", ["vesper4", "vesper_mini"])
@pytest.mark.parametrize("corpus", CORPORA)
def test_corpora_differ_by_their_data_alone(corpus, config):
    files = [
        RECIPES / name / "emotion" / "hparams" / f"{config}.yaml" for name in (corpus, "EmoDB")
    ]
    assert differing(*files) <= OF_THE_CORPUS


@pytest.mark.parametrize("config", TABLE_IV_MINI[1])
def test_heads_on_frames_at_mini_size_differ_by_the_corpus_alone(config):
    files = [RECIPES / name / "emotion" / "hparams" / f"{config}.yaml" for name in TABLE_IV_MINI[0]]
    assert differing(*files) <= OF_THE_CORPUS


@pytest.mark.parametrize("config", TABLE_IV[1])
def test_heads_on_frames_differ_by_the_corpus_alone(config):
    first, *others = (
        RECIPES / name / "emotion" / "hparams" / f"{config}.yaml" for name in TABLE_IV[0]
    )
    for other in others:
        assert differing(first, other) <= OF_THE_CORPUS | {"lr"}


@pytest.mark.parametrize("config", [*TABLE_IV[1], *TABLE_IV_MINI[1]])
def test_heads_on_frames_differ_from_the_superb_head_by_head_and_training(config):
    mini = config.endswith("_mini")
    folder = RECIPES / ("EmoDB" if mini else "IEMOCAP") / "emotion" / "hparams"
    sibling = "vesper_mini" if mini else "vesper4"
    found = differing(folder / f"{config}.yaml", folder / f"{sibling}.yaml")
    of_training = {"number_of_epochs", "lr_first", "warmup_epochs", "weight_decay", "lr_annealing"}
    of_training |= {"max_grad_norm", "remove_vector_weight_decay"} | OF_THE_OPTIMIZER
    of_features = {"features", "states_dtype", "dataloader_options", "eval_dataloader_options"}
    assert found <= of_training | of_features | {"head", "export", "baselines", "output_folder"}


def test_training_of_table_iv_is_that_of_the_heads_papers():
    for corpus in TABLE_IV[0]:
        folder = RECIPES / corpus / "emotion" / "hparams"
        shift = plain(folder / "shiftformer.yaml")
        table = dict(lr=5e-4, lr_first=5e-7, lr_final=5e-6, weight_decay=0.05, warmup_epochs=5)
        table |= dict(number_of_epochs=100, batch_size=32, max_grad_norm=5.0)
        assert {key: shift[key] for key in table} == table
        speech = plain(folder / "speechformer.yaml")
        table = dict(lr=1e-3 if corpus == "MELD" else 5e-4, momentum=0.9, number_of_epochs=120)
        assert {key: speech[key] for key in table} == table
        assert speech["lr_final"] == ("ref", "<lr> / 100")


@pytest.mark.parametrize("recipe", ["own_data", "cross_corpus"])
def test_the_other_recipes_sizes_differ_by_encoder_and_optimizer(recipe):
    folder = RECIPES / recipe / "emotion" / "hparams"
    found = differing(folder / "vesper4.yaml", folder / "vesper_mini.yaml")
    assert found <= OF_THE_ENCODER | OF_THE_OPTIMIZER


def test_table_i_and_the_crops_of_the_paper():
    table = dict(number_of_epochs=50, batch_size=32, lr=7e-4, lr_final=7e-6, warmup_epochs=0)
    table |= dict(momentum=0.9, weight_decay=0.01)
    crops = {"IEMOCAP": 6.5, "MELD": 4.5, "CREMA-D": 3.0}
    for corpus, crop in crops.items():
        for name in PAPER_SIZES:
            hparams = plain(RECIPES / corpus / "emotion" / "hparams" / f"{name}.yaml")
            assert {key: hparams[key] for key in table} == table
            assert hparams["opt_class"][0] == "name:torch.optim.SGD"
            assert hparams["crop_seconds"] == crop


def test_selection_and_classes_by_corpus():
    found = {
        corpus: plain(RECIPES / corpus / "emotion" / "hparams" / "vesper4.yaml")
        for corpus in CORPORA
    }
    published = {"A": "WA+UA", "B": "WA"}
    assert found["IEMOCAP"]["selection_metrics"] == {**published, "C": "WA"}
    assert found["CREMA-D"]["selection_metrics"] == published
    assert found["MELD"]["selection_metrics"] == {"A": "WF1", "B": "WF1"}
    assert found["MELD"]["bootstrap_unit"] == "dialogue"
    assert found["IEMOCAP"]["classes"] == "ang neu hap sad".split()
    assert found["MELD"]["classes"] == "neutral anger joy sadness surprise disgust fear".split()
    assert found["CREMA-D"]["classes"] == "ANG DIS FEA HAP NEU SAD".split()


def test_the_papers_sizes_of_states():
    sizes = {"vesper4": (5, 1024), "vesper12": (13, 1024), "wavlm_base": (13, 768)}
    for name, expected in {**sizes, "wavlm_large": (25, 1024), "vesper_mini": (3, 192)}.items():
        for corpus in CORPORA:
            hparams = plain(Path(RECIPES / corpus / "emotion" / "hparams" / f"{name}.yaml"))
            assert (hparams["num_states"], hparams["input_dim"]) == expected
