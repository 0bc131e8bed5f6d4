"""Module 07, training: the loop that turns a model, an optimizer and batches into a trained model.

Read in this order:

    loop.py          one training step, and one evaluation
    metrics.py       what is measured besides the loss
    trainer.py       the loop with schedules, validation and callbacks
    checkpoints.py   what a resumed run needs, in one file
    callbacks.py     early stopping, checkpoints, logs and curves

`resuming.py`, `sharing.py`, `interrupts.py`, `arguments.py`, `batches.py` and `progress.py` hold what the lesson does
not need.
"""

from __future__ import annotations

from tt_learn.training.callbacks import Checkpoints as Checkpoints
from tt_learn.training.callbacks import EarlyStopping as EarlyStopping
from tt_learn.training.callbacks import JSONLog as JSONLog
from tt_learn.training.callbacks import LossCurve as LossCurve
from tt_learn.training.checkpoints import FORMAT as FORMAT
from tt_learn.training.checkpoints import Arrays as Arrays
from tt_learn.training.checkpoints import CheckpointError as CheckpointError
from tt_learn.training.checkpoints import environment as environment
from tt_learn.training.checkpoints import environment_changes as environment_changes
from tt_learn.training.checkpoints import load_checkpoint as load_checkpoint
from tt_learn.training.checkpoints import load_tensors as load_tensors
from tt_learn.training.checkpoints import read_checkpoint as read_checkpoint
from tt_learn.training.checkpoints import restore as restore
from tt_learn.training.checkpoints import save_checkpoint as save_checkpoint
from tt_learn.training.checkpoints import save_tensors as save_tensors
from tt_learn.training.checkpoints import snapshot as snapshot
from tt_learn.training.errors import TrainingError as TrainingError
from tt_learn.training.events import Callback as Callback
from tt_learn.training.history import History as History
from tt_learn.training.history import Record as Record
from tt_learn.training.history import table as table
from tt_learn.training.loop import accumulate as accumulate
from tt_learn.training.loop import evaluate as evaluate
from tt_learn.training.loop import evaluating as evaluating
from tt_learn.training.loop import train_step as train_step
from tt_learn.training.metrics import accuracy as accuracy
from tt_learn.training.metrics import binary_accuracy as binary_accuracy
from tt_learn.training.metrics import confusion_matrix as confusion_matrix
from tt_learn.training.metrics import perplexity as perplexity
from tt_learn.training.metrics import top_k_accuracy as top_k_accuracy
from tt_learn.training.progress import ProgressBar as ProgressBar
from tt_learn.training.serialization import load as load
from tt_learn.training.serialization import save as save
from tt_learn.training.sharing import completed_state as completed_state
from tt_learn.training.sharing import stored_state as stored_state
from tt_learn.training.trainer import Trainer as Trainer
