"""The paper's grid as a list of cells: what is run, with which command, and what it needs before.

A cell is one command of a recipe, as a user would type it. The variants below are the paper's: each
names the tables that show it. Sizes (``mini.yaml``, ``full.yaml``, ``masking_study.yaml``) say with
which models, corpora, seeds and options.
"""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLES = ("II", "III", "IV", "V", "VI", "VII", "VIII", "F5", "F6")

# losses as they are called here -> option of the pretraining recipe (Table VII)
LOSSES = {
    "lhx": "{l: 1.0, h: 0.1, x: 1.0}",
    "lh": "{l: 1.0, h: 0.1, x: 0.0}",
    "hx": "{l: 0.0, h: 0.1, x: 1.0}",
    "h": "{l: 0.0, h: 0.1, x: 0.0}",
}


@dataclass(frozen=True)
class Variant:
    """One way of making Vesper."""

    compression: str = "extraction"
    masking: str = "guided"
    losses: str = "lhx"
    tables: tuple = ()

    @property
    def name(self):
        """What differs from the paper's own, or "guided" for that."""
        parts = [
            f"init_{self.compression}" if self.compression != "extraction" else "",
            f"mask_{self.masking}" if self.masking != "guided" else "",
            f"loss_{self.losses}" if self.losses != "lhx" else "",
        ]
        return "-".join(part for part in parts if part) or "guided"


VARIANTS = (
    Variant(tables=("III", "IV", "V", "VI", "VII", "VIII", "F6")),
    Variant(masking="random", tables=("VI",)),
    Variant(masking="random_matched", tables=("VI",)),
    Variant(masking="published_code", tables=("VI",)),
    Variant(compression="random", tables=("V",)),
    Variant(compression="distillation", tables=("V",)),
    Variant(compression="averaging", tables=("V",)),
    Variant(losses="h", tables=("VII",)),
    Variant(losses="lh", tables=("VII",)),
    Variant(losses="hx", tables=("VII",)),
)
READOUTS = (  # head, mix of states, tables of the four models' own rows
    ("superb", "weighted_sum", ("III", "V", "VI", "VII")),
    ("superb", "last", ("VIII",)),
    ("shiftformer", "weighted_sum", ("IV",)),
    ("speechformer", "weighted_sum", ("IV",)),
)


@dataclass
class Cell:
    """One command.

    Attributes
    ----------
    name : str
        Also its folder below ``<work>/cells``.
    folder : str
        Where the command is run, below the repository.
    command : list of str
        Paths as ``{work}``, ``{emodb}`` and so on, filled in when it is run.
    writes : str
        File, below ``<work>`` or (with ``./``) the repository, whose presence shows that it ran.
    needs : tuple of str
        Names of cells.
    minutes : float
        Expected.
    tables : tuple of str
    facts : dict
        What rows.json tells of it; memory_gb and disk_gb, where known.
    """

    name: str
    folder: str
    command: list
    writes: str
    needs: tuple = ()
    minutes: float = 1.0
    tables: tuple = ()
    facts: dict = field(default_factory=dict)


def read_size(size):
    """The settings of ``<size>.yaml`` here, or of a YAML file of your own; ValueError else."""
    path = Path(size) if str(size).endswith(".yaml") else HERE / f"{size}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in HERE.glob("*.yaml") if "\npretrain:" in p.read_text())
        raise ValueError(f"--size {size}: no such size; choose one of {', '.join(known)}")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


class Grid:
    """Cells and rows of a size.

    Arguments
    ---------
    settings : dict
        As `read_size` returns them.
    tables : sequence of str, optional
        Of `TABLES`; only what they show is planned. Default: all that the size offers.
    scale : float
        Of the expected minutes of pretraining, for another amount of speech.
    """

    def __init__(self, settings, tables=None, scale=1.0):
        self.settings, self.scale = settings, scale
        self.tables = set(tables or settings.get("only_tables", TABLES))
        self.cells, self.rows = {}, []
        for name, cell in settings.get("prepare", {}).items():
            self._add(name, cell["folder"], cell["command"], cell["writes"], (), cell["minutes"])
        labelled = [n for n, c in settings.get("prepare", {}).items() if c.get("labelled")]
        self.prepared = tuple(name for name in self.cells if name not in labelled)
        self._complexity()
        self._models()
        self._figures()
        self._forget_unneeded()
        self.cells = dict(sorted(self.cells.items(), key=self._urgency))

    def _urgency(self, item):
        """What a budget cuts first comes last: protocol A, of it Table IV, then the ablations."""
        name, cell = item
        slow = any(f"/{head}-" in name for head in self.settings["emotion"]["one_seed_heads"])
        if name.endswith("/A"):
            return 4 if slow else 2 if {"III", "VIII"} & set(cell.tables) else 3
        return int(slow)

    def _add(self, name, folder, command, writes, needs=(), minutes=1.0, tables=(), **facts):
        if name not in self.cells:
            words = command.split() if isinstance(command, str) else command
            self.cells[name] = Cell(name, folder, list(words), writes, tuple(needs), minutes)
        cell = self.cells[name]
        cell.tables = tuple(t for t in TABLES if t in {*cell.tables, *tables})
        cell.facts.update(facts)
        return name

    def _complexity(self):
        if "II" in self.tables:
            target = "results/benchmarks/complexity.json"
            command = ["python", "benchmarks/complexity.py", "--json", target]
            self._add("complexity", ".", command, f"./{target}", minutes=0.5, tables=("II",))

    def _models(self):
        """Teachers and comparison models, then Vesper in all variants, most important first."""
        wanted = [v for v in VARIANTS if self.tables & set(v.tables)]
        models = self.settings["pretrain"]["models"]
        for name in self.settings["teachers"]:
            self._row(name, None, [self._teacher(name)])
        for variant in wanted:
            for model in models:
                names = [self._pretraining(model, variant, s) for s in self._seeds(model, variant)]
                self._row(model, variant, names)

    def _seeds(self, model, variant):
        """Pretraining seeds of a row: the most that one of its tables asks for."""
        pretrain = self.settings["pretrain"]
        by_table = pretrain["seeds"].get(model, {})
        asked = [by_table[t] for t in variant.tables if t in by_table and t in self.tables]
        return max(asked, key=len, default=[pretrain["first_seed"]])

    def _teacher(self, name):
        """The cell of a teacher trained here; a published one has none."""
        teacher = self.settings["teachers"][name]
        if "command" not in teacher:
            return name
        command = teacher["command"].replace("{speech}", self.settings["speech"])
        words = [*command.split(), "--output_folder", f"{{work}}/cells/teacher-{name}"]
        writes = f"cells/teacher-{name}/export/pretraining.json"
        needs, minutes = self.prepared, teacher["minutes"]
        return self._add(f"teacher-{name}", "recipes/LSSED/teacher", words, writes, needs, minutes)

    def source(self, name):
        """What ``--encoder`` and ``--teacher`` are given for a model or a cell's name."""
        if name in self.settings["teachers"]:
            teacher = self.settings["teachers"][name]
            return teacher.get("source") or f"{{work}}/cells/teacher-{name}/export"
        return f"{{work}}/cells/{name}/export"

    def _pretraining(self, model, variant, seed):
        """The cell of one pretraining, and of the distillation before it."""
        pretrain, name = self.settings["pretrain"], f"{model}-{variant.name}-{seed}"
        options, teacher = pretrain["models"][model], self._teacher("large")
        needs = [*self.prepared, *([teacher] if teacher in self.cells else [])]
        extra = ["--masking", variant.masking, "--seed", str(seed)]
        extra += ["--loss_weights", LOSSES[variant.losses]]
        if variant.compression == "distillation":
            needs.append(self._distillation(model, seed, needs))
            extra += ["--method", "distillation", "--distilled", self.source(needs[-1])]
        else:
            extra += ["--method", variant.compression]
        config = options.get("config")
        command = (
            pretrain["command"]
            if config is None
            else pretrain["command"].format_map(Partial(config=config))
        )
        words = self._words(command, options.get("options", ""), *extra, name=name)
        writes = f"cells/{name}/export/pretraining.json"
        return self._add(
            name,
            "recipes/LSSED/pretrain",
            words,
            writes,
            needs,
            options["minutes"] * self.scale,
            variant.tables,
            **options.get("facts", {}),
        )

    def _distillation(self, model, seed, needs):
        pretrain, name = self.settings["pretrain"], f"{model}-distilled-{seed}"
        options = pretrain["models"][model]
        command = pretrain["distill"].format_map(Partial(config=options.get("config", "")))
        layers = [] if "config" in options else self._layers(options)
        words = self._words(command, " ".join(layers), "--seed", str(seed), name=name)
        writes = f"cells/{name}/export/pretraining.json"
        minutes = options["distill_minutes"]
        return self._add(name, "recipes/LSSED/distill", words, writes, needs, minutes, ("V",))

    @staticmethod
    def _layers(options):
        words = options["options"].split()
        return ["--num_layers", words[words.index("--num_layers") + 1]]

    def _words(self, command, options, *extra, name):
        """A pretraining command: speech and teacher filled in, its own options and folder added."""
        speech = command.replace("{speech}", self.settings["speech"])
        words = speech.replace("{large}", self.source("large")).split()
        return [*words, *options.split(), *extra, "--output_folder", f"{{work}}/cells/{name}"]

    def _row(self, model, variant, encoders):
        """Rows of one model in one variant: its emotion runs, on all corpora and protocols."""
        main = variant is None or variant.name == "guided"
        for head, mix, tables in READOUTS:
            shown = set(tables) & (set(variant.tables) if variant else {*tables})
            if not main and (head, mix) != READOUTS[0][:2]:
                continue
            if variant is None:
                shown -= {"V", "VI", "VII"}
                if (head, mix) == READOUTS[0][:2]:
                    shown |= {"III"}
            if not shown & self.tables or head not in self.settings["emotion"]["configs"]:
                continue
            for corpus in self.settings["corpora"]:
                for protocol in self.settings["protocols"]:
                    self._cells_of_row(
                        model, variant, encoders, head, mix, sorted(shown), corpus, protocol
                    )

    def _cells_of_row(self, model, variant, encoders, head, mix, tables, corpus, protocol):
        emotion, seeds = self.settings["emotion"], self.settings["head_seeds"]
        if head in emotion["one_seed_heads"]:
            encoders, pairs = encoders[:1], [seeds[:1]]
        elif len(encoders) > 1:
            pairs = [[seed] for seed in seeds[: len(encoders)]]
        else:
            pairs = [seeds]
        runs = [
            self._emotion(model, encoder, head, mix, corpus, protocol, own, tables)
            for encoder, own in zip(encoders, pairs, strict=True)
        ]
        self.rows.append(
            {
                "model": model,
                "compression": variant and variant.compression,
                "masking": variant and variant.masking,
                "losses": variant and variant.losses,
                "head": head,
                "mix": mix,
                "corpus": corpus,
                "protocol": protocol,
                "encoders": encoders,
                "runs": [f"cells/{run}" for run in runs],
                "tables": tables,
            }
        )

    def _emotion(self, model, encoder, head, mix, corpus, protocol, seeds, tables):
        emotion = self.settings["emotion"]
        name = f"emotion/{corpus}/{encoder}/{head}-{mix}/{protocol}"
        config = emotion["configs"][head]
        config = config[model] if isinstance(config, dict) else config
        names = dict(config=config, encoder=self.source(encoder))
        names["corpus_folder"] = f"{{{emotion['data'][corpus]}}}"
        words = emotion["command"].format_map(Partial(names)).split()
        words += ["--protocol", protocol, "--mix", mix, "--head_seeds", f"{seeds}"]
        plain = (head, mix, protocol) == ("superb", "weighted_sum", "B")
        reference = emotion.get("reference", []) if plain and model == "large" else []
        words += ["--baselines", f"[{', '.join(reference)}]"]
        words += ["--output_folder", f"{{work}}/cells/{name}"]
        minutes = emotion["minutes"][head] * (0.5 if len(seeds) == 1 and head == "superb" else 1)
        folder, writes = f"recipes/{corpus}/emotion", f"cells/{name}/metrics.json"
        needs = [encoder] if encoder in self.cells else []
        return self._add(name, folder, words, writes, needs, minutes, tables)

    def _figures(self):
        """Figures 5 and 6, for sizes that name a wav and a manifest."""
        for table, figure in self.settings.get("figures", {}).items():
            if table not in self.tables:
                continue
            first = self.settings["pretrain"]["first_seed"]
            models = [*self.settings["teachers"], *self.settings["pretrain"]["models"]]
            cells = {
                m: m if m in self.settings["teachers"] else f"{m}-guided-{first}" for m in models
            }
            sources = " ".join(f"{m}={self.source(cell)}" for m, cell in cells.items())
            names = [c if c in self.cells else f"teacher-{c}" for c in cells.values()]
            reads = "{encoders}" in figure["command"]
            needs = [n for n in names if reads and n in self.cells] + figure.get("needs", [])
            command = figure["command"].replace("{encoders}", sources)
            minutes, writes = figure["minutes"], figure["writes"]
            self._add(figure["name"], ".", command, writes, needs, minutes, (table,))

    def _forget_unneeded(self):
        """Cells that no wanted table shows, and that nothing shown needs, leave the plan."""
        kept, waiting = set(), [n for n, c in self.cells.items() if self.tables & set(c.tables)]
        waiting = [n for n in waiting if not self._is_encoder(n)]
        while waiting:
            name = waiting.pop()
            if name not in kept:
                kept.add(name)
                waiting += self.cells[name].needs
        self.cells = {name: cell for name, cell in self.cells.items() if name in kept}

    def _is_encoder(self, name):
        return self.cells[name].folder.startswith("recipes/LSSED")


class Partial(dict):
    """For format_map: names that are not given stay as they are, ``{work}`` among them."""

    def __missing__(self, name):
        return f"{{{name}}}"
