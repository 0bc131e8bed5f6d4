"""Act IV: one training step of a GPT in nanoGPT's CPU configuration, and the tokenizer's speed."""

from __future__ import annotations

from .support import activate, applicable, integers, plugins, speedup


class GPTStep:
    """4 layers, 4 heads, 128 dimensions, context 64, batch 12: forward, backward, clipping, optimizer."""

    params = (plugins("none", "profiler", "jit"),)
    param_names = ("plugin",)

    def setup(self, plugin: str) -> None:
        with applicable():
            from tt_core import tensor
            from tt_language import GPT, GPTConfig, next_token_loss
            from tt_learn import AdamW, clip_grad_norm_
        activate(plugin)
        self.clip = clip_grad_norm_
        self.loss = next_token_loss
        self.model = GPT(GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128, dropout=0.0))
        self.optimizer = AdamW(self.model.parameters(), lr=1e-3)
        tokens = integers(65, 12, 65)
        self.inputs, self.targets = tensor(tokens[:, :-1]), tensor(tokens[:, 1:])
        self.step()  # compiles what a plugin compiles at the first call

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model(self.inputs), self.targets).backward()
        self.clip(self.model.parameters(), 1.0)
        self.optimizer.step()

    def time_step(self, plugin: str) -> None:
        self.step()

    def peakmem_step(self, plugin: str) -> None:
        self.step()

    def track_speedup_step(self, plugin: str) -> float:
        return speedup(plugin, self.step)

    track_speedup_step.unit = "times as fast"  # type: ignore[attr-defined]


class Tokenizer:
    """Byte-level BPE over text that every Python installation carries."""

    def setup(self) -> None:
        with applicable():
            from pydoc_data.topics import topics

            from tt_language import BPETokenizer
        self.text = "\n".join(topics[name] for name in sorted(topics))[:100_000]
        self.train = BPETokenizer.train
        self.tokenizer = self.train(self.text, vocab_size=512)

    def time_train(self) -> None:
        self.train(self.text, vocab_size=512)

    def time_encode(self) -> None:
        self.tokenizer.encode(self.text)
