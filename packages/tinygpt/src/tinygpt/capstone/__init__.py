"""Module 20, capstone: TinyGPT, a language model with its tokenizer, and the job that trains it.

Read `capstone` for the model, `corpus` for its text and `train` for the job; `presets` names sets of options.
"""

from __future__ import annotations

from tinygpt.capstone.callbacks import Estimate as Estimate
from tinygpt.capstone.callbacks import Sample as Sample
from tinygpt.capstone.callbacks import SaveModel as SaveModel
from tinygpt.capstone.callbacks import Say as Say
from tinygpt.capstone.callbacks import duration as duration
from tinygpt.capstone.capstone import TinyGPT as TinyGPT
from tinygpt.capstone.corpus import GOLDEN_SECTION as GOLDEN_SECTION
from tinygpt.capstone.corpus import Tokens as Tokens
from tinygpt.capstone.corpus import split_tokens as split_tokens
from tinygpt.capstone.loading import new_model as new_model
from tinygpt.capstone.loading import saved_tokenizer as saved_tokenizer
from tinygpt.capstone.presets import PRESETS as PRESETS
from tinygpt.capstone.presets import TOKENIZERS as TOKENIZERS
from tinygpt.capstone.presets import TrainConfig as TrainConfig
from tinygpt.capstone.presets import gpt_config as gpt_config
from tinygpt.capstone.presets import preset as preset
from tinygpt.capstone.reading import SUFFIXES as SUFFIXES
from tinygpt.capstone.reading import Corpus as Corpus
from tinygpt.capstone.reading import CorpusError as CorpusError
from tinygpt.capstone.reading import read_corpus as read_corpus
from tinygpt.capstone.resuming import resume as resume
from tinygpt.capstone.train import learn_tokenizer as learn_tokenizer
from tinygpt.capstone.train import optimizer_for as optimizer_for
from tinygpt.capstone.train import start as start
from tinygpt.capstone.train import validate as validate
