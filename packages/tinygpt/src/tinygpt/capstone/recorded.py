"""Module 20, capstone: what a run's config.json says of its training, written and read back."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygpt.__about__ import __version__
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.presets import TrainConfig
from tinygpt.capstone.reading import Corpus, CorpusError, read_corpus
from tinygpt.runs import RunFolder
from tt_core.engine.errors import FileError, TinyTorchError
from tt_language import GPTConfig
from tt_learn.training.checkpoints import read_checkpoint
from tt_perf.compression import Distillation


def described_run(config: TrainConfig, model: GPTConfig) -> dict[str, Any]:
    """The model's and the training's options, and the versions that trained it."""
    return {
        "model": model.to_dict(),
        "training": dataclasses.asdict(config),
        "versions": {"tinygpt": __version__, "python": platform.python_version()},
    }


def described_corpus(corpus: Corpus, path: Path | None) -> dict[str, Any]:
    """The description of a text, by which `same_corpus` finds it again."""
    return {
        "source": corpus.source,
        "path": None if path is None else str(path.resolve()),
        "characters": len(corpus.text),
        "sha256": corpus.sha256,
    }


def distillation(described: Mapping[str, Any]) -> Distillation:
    """The loss of a student, from the entry `teacher`: the folder of the teacher, temperature and alpha."""
    known = described["teacher"]
    try:
        path, options = known["path"], {name: known[name] for name in ("temperature", "alpha")}
    except (TypeError, KeyError):
        raise FileError("config.json is damaged: it does not say who the teacher was") from None
    return Distillation(TinyGPT.load(path).model, **options)


def train_config(folder: RunFolder, described: Mapping[str, Any]) -> TrainConfig:
    if "training" not in described:
        raise FileError(f"{folder.config} holds no training options, so there is no training to continue")
    try:
        return TrainConfig(**described["training"])
    except (TypeError, TinyTorchError) as error:
        raise FileError(f"{folder.config} is damaged: training options do not fit ({error})") from None


def saved_weights(folder: RunFolder, steps: int) -> int:
    """How many weights the last checkpoint holds, once it is known to be whole and not beyond `steps`."""
    path = folder.last_checkpoint
    if not path.exists():
        raise FileError(
            f"{folder.path} holds no checkpoint/{path.name} to continue from; train again with another --out"
        )
    saved = read_checkpoint(path)[1]
    try:
        done, weights = saved["trainer"]["step"], sum(array.size for array in saved["model"].values())
    except (KeyError, TypeError, AttributeError):
        raise FileError(f"{path} is no checkpoint of a training run; train again with another --out") from None
    if steps < done:
        raise TinyTorchError(f"{folder.path} has done {done} steps already, --steps {steps} is fewer")
    return weights


def names_text(described: Mapping[str, Any]) -> bool:
    """Whether config.json says how and on what text a model was trained: not in Hugging Face's format."""
    return "training" in described and "corpus" in described


def same_corpus(folder: RunFolder, described: Mapping[str, Any]) -> Corpus:
    """The text that a run was begun with; another one, such as another Python's documentation, is refused."""
    known = described.get("corpus")
    path = known.get("path", 0) if isinstance(known, dict) else 0
    if not isinstance(known, dict) or not (path is None or isinstance(path, str)):
        raise FileError(f"{folder.config} is damaged: it does not say what corpus was trained on")
    corpus = read_corpus(None if path is None else Path(path))
    if corpus.sha256 != known.get("sha256"):
        raise CorpusError(f"{corpus.source} is not the text that {folder.path} was trained on; put it back as it was")
    return corpus
