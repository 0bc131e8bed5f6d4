"""The exercises of Act VI: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import pytest

from tinygpt.act import plugin
from tt_core.course.testing import CourseTests, KnockoutTests

MODULES = {module.name: module for module in plugin.tt_modules()}

WRONG: dict[str, dict[str, list[str]]] = {
    "capstone": {
        "_windows": [
            "at = starts[:, None] + np.arange(length)\nreturn ids[at], ids[at]",
            "at = starts[:, None] + np.arange(length)\nreturn ids[at + 1], ids[at]",
            "at = starts[:, None] + np.arange(length + 1)\nreturn ids[at], ids[at]",
        ],
        "Tokens.batch": [
            # independent random starts
            "starts = np.random.default_rng(step).integers(0, len(self.train) - block_size, batch_size)\n"
            "return _windows(self.train, starts, block_size)",
            # each step begins again
            "starts = (first + np.arange(batch_size) * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)\n"
            "return _windows(self.train, starts.astype(int), block_size)",
            # a step further each time, not a batch
            "order = step + np.arange(batch_size)\n"
            "starts = (first + order * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)\n"
            "return _windows(self.train, starts.astype(int), block_size)",
            # the last windows have no target
            "order = step * batch_size + np.arange(batch_size)\n"
            "starts = (first + order * GOLDEN_SECTION) % 1 * len(self.train)\n"
            "return _windows(self.train, np.minimum(starts.astype(int), len(self.train) - block_size - 1), block_size)",
            "order = step * batch_size + np.arange(batch_size)\n"
            "starts = (order * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)\n"
            "return _windows(self.train, starts.astype(int), block_size)",
        ],
        "Tokens.validation": [
            "starts = np.arange(0, len(self.val) - block_size, block_size)[:most]\n"
            "return [_windows(self.val, starts[i : i + batch_size], block_size)"
            " for i in range(0, len(starts), batch_size)]",
            "starts = np.arange(0, len(self.val) - block_size)\n"
            "return [_windows(self.val, starts[i : i + batch_size], block_size)"
            " for i in range(0, len(starts), batch_size)]",
            "starts = np.arange(0, len(self.val) - block_size, block_size)\n"
            "if most is not None and len(starts) > most:\n"
            "    starts = starts[np.linspace(0, len(starts) - 1, most).astype(int)]\n"
            "return [_windows(self.val, starts, block_size)]",
        ],
        "split_tokens": [
            "ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)\nat = int(len(ids) * val_fraction)\n"
            "return Tokens(ids[:at], ids[at:], len(tokenizer.decode(ids[at:].tolist()).encode()))",
            "ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)\nat = int(len(ids) * val_fraction)\n"
            "return Tokens(ids[at:], ids[:at], len(tokenizer.decode(ids[:at].tolist()).encode()))",
            "ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)\n"
            "at = int(len(ids) * (1 - val_fraction))\n"
            "return Tokens(ids, ids[at:], len(tokenizer.decode(ids[at:].tolist()).encode()))",
            "ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)\n"
            "at = int(len(ids) * (1 - val_fraction))\nreturn Tokens(ids[:at], ids[at:], len(ids) - at)",
        ],
        "Tokens.bits_per_byte": [
            "return loss / math.log(2)",
            "return loss * len(self.val) / max(self.val_bytes, 1)",
            "return loss / math.log(2) * self.val_bytes / max(len(self.val), 1)",
            "return loss / math.log(2) * len(self.val) / self.val_bytes",
        ],
        "optimizer_for": [
            "return AdamW(model.parameters(), config.learning_rate, (config.beta1, config.beta2),"
            " weight_decay=config.weight_decay)",
            "groups = [\n"
            "    {'params': [p for p in model.parameters() if p.ndim < 2], 'weight_decay': config.weight_decay},\n"
            "    {'params': [p for p in model.parameters() if p.ndim >= 2], 'weight_decay': 0.0}]\n"
            "return AdamW(groups, config.learning_rate, (config.beta1, config.beta2))",
            "groups = [\n"
            "    {'params': [p for p in model.parameters() if p.ndim >= 2], 'weight_decay': config.weight_decay}]\n"
            "return AdamW(groups, config.learning_rate, (config.beta1, config.beta2))",
            "groups = [\n"
            "    {'params': [p for p in model.parameters() if p.ndim >= 2], 'weight_decay': config.weight_decay},\n"
            "    {'params': [p for p in model.parameters() if p.ndim < 2], 'weight_decay': 0.0}]\n"
            "return AdamW(groups, config.learning_rate)",
        ],
        "validate": [
            "found = []\nwith evaluating(model):\n"
            "    for x, y in tokens.validation(2 * config.batch_size, config.block_size, windows):\n"
            "        found.append(next_token_loss(model(from_numpy(x)), from_numpy(y)).item())\n"
            "return float(np.mean(found))",
            "total = count = 0.0\nfor x, y in tokens.validation(2 * config.batch_size, config.block_size, windows):\n"
            "    total += next_token_loss(model(from_numpy(x)), from_numpy(y)).item() * x.size\n    count += x.size\n"
            "return total / count",
            "total = count = 0.0\nmodel.eval()\n"
            "for x, y in tokens.validation(2 * config.batch_size, config.block_size, windows):\n"
            "    total += next_token_loss(model(from_numpy(x)), from_numpy(y)).item() * x.size\n    count += x.size\n"
            "return total / count",
        ],
        "needs": [
            "width, layers = config.n_embd, config.n_layer\n"
            "weights = 12 * layers * width**2 + (vocab_size + config.block_size) * width\n"
            "token = layers * 16 * width + 3 * vocab_size\n"
            "return Needs(_TRAINED * weights, _SAVED * weights, 4 * token * config.batch_size * config.block_size)",
            "width, layers = config.n_embd, config.n_layer\n"
            "weights = 12 * layers * width**2 + vocab_size * width\n"
            "floats = 16 + 2 * (config.mlp == 'swiglu') + 2 * (config.dropout > 0)\n"
            "scores = config.n_head * config.block_size if config.block_size <= _KEPT_SCORES else 0\n"
            "token = layers * (floats * width + scores) + 3 * vocab_size\n"
            "return Needs(_TRAINED * weights, _SAVED * weights, 4 * token * config.batch_size * config.block_size)",
        ],
        "TinyGPT.opening": ["return [0]", "return self.tokenizer.encode('\\n')"],
        "TinyGPT._texts": [
            "for token in tokens:\n    yield self.tokenizer.decode([token])",
            "yield self.tokenizer.decode(list(tokens), skip_special_tokens=True)",
            "decoder = StreamDecoder(self.tokenizer, skip_special_tokens=True)\n"
            "for token in tokens:\n    yield decoder.feed(token)",
            "decoder = StreamDecoder(self.tokenizer)\nfor token in tokens:\n    yield decoder.feed(token)\n"
            "yield decoder.finish()",
        ],
        "TinyGPT.generate": [
            "ids = self.opening() if prompt in ('', '\\n') else self.tokenizer.encode(prompt)\n"
            "yield from self._texts(stream(self.model, ids, max_new_tokens, stop=stop, tokenizer=self.tokenizer,"
            " **sampling))",
            "return self._texts(stream(self.model, self.tokenizer.encode(prompt), max_new_tokens, stop=stop,"
            " tokenizer=self.tokenizer, **sampling))",
            "ids = self.opening() if prompt in ('', '\\n') else self.tokenizer.encode(prompt)\n"
            "return self._texts(stream(self.model, ids, max_new_tokens, **sampling))",
            "ids = self.opening() if prompt in ('', '\\n') else self.tokenizer.encode(prompt)\n"
            "return self._texts(stream(self.model, ids, max_new_tokens, stop=stop, tokenizer=self.tokenizer))",
        ],
    }
}

RIGHT: dict[str, dict[str, str]] = {
    "capstone": {
        "_windows": "width = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[starts]\n"
        "return width[:, :-1], width[:, 1:]",
        "Tokens.batch": "starts = []\nfor n in range(step * batch_size, (step + 1) * batch_size):\n"
        "    starts.append(int((first + n * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)))\n"
        "return _windows(self.train, np.array(starts), block_size)",
        "validate": "losses, sizes = [], []\nwith evaluating(model):\n"
        "    for x, y in tokens.validation(2 * config.batch_size, config.block_size, windows):\n"
        "        losses.append(next_token_loss(model(from_numpy(x)), from_numpy(y)).item())\n"
        "        sizes.append(len(x))\nreturn float(np.average(losses, weights=sizes))",
        "TinyGPT._texts": "decoder = StreamDecoder(self.tokenizer, skip_special_tokens=True)\nfor token in tokens:\n"
        "    if piece := decoder.feed(token):\n        yield piece\nyield decoder.finish()",
        "TinyGPT.opening": "try:\n    ids = self.tokenizer.encode('\\n')\nexcept Exception:\n    ids = [0]\nreturn ids",
        "Tokens.bits_per_byte": "if self.val_bytes == 0:\n    return 0.0\n"
        "return loss / math.log(2) * len(self.val) / self.val_bytes",
        "Tokens.validation": "count = (len(self.val) - 1) // block_size\nnumbers = list(range(count))\n"
        "if most is not None and most < count:\n"
        "    numbers = [int(i * (count - 1) / (most - 1)) if most > 1 else 0 for i in range(most)]\nbatches = []\n"
        "while numbers:\n    now, numbers = numbers[:batch_size], numbers[batch_size:]\n"
        "    batches.append(_windows(self.val, np.array(now) * block_size, block_size))\nreturn batches",
        "split_tokens": "text = corpus.text\ncut = len(text) - int(len(text) * val_fraction)\n"
        "train = np.array(tokenizer.encode(text[:cut]), dtype=np.int64)\n"
        "val = np.array(tokenizer.encode(text[cut:]), dtype=np.int64)\n"
        "for name, part in (('training', train), ('validation', val)):\n    if len(part) < block_size + 1:\n"
        "        raise CorpusError(f'the {name} part has {len(part)} tokens, a window has {block_size + 1}')\n"
        "return Tokens(train, val, len(text[cut:].encode('utf-8')))",
        "optimizer_for": "big, small = [], []\nfor p in model.parameters():\n"
        "    (big if p.ndim > 1 else small).append(p)\n"
        "groups = [{'params': big, 'weight_decay': config.weight_decay}, {'params': small, 'weight_decay': 0.0}]\n"
        "return AdamW([g for g in groups if g['params']], lr=config.learning_rate, betas=(config.beta1, config.beta2))",
        "needs": "from tinygpt.capstone.presets import gpt_config\n"
        "n = 12 * config.n_layer * config.n_embd**2 + vocab_size * config.n_embd\n"
        "n += config.block_size * config.n_embd if config.position == 'learned' else 0\n"
        "floats = 16 + 2 * (config.mlp == 'swiglu') + 2 * bool(config.dropout) + 2 * (config.position == 'rotary')\n"
        "scores = config.n_head * config.block_size if config.block_size <= _KEPT_SCORES else 0\n"
        "token = config.n_layer * (floats * config.n_embd + scores) + 3 * vocab_size\n"
        "tokens = config.batch_size * config.block_size\n"
        "return Needs(_TRAINED * n, _SAVED * n, 4 * token * tokens, _READ * tokens * config.accumulate)",
        "TinyGPT.generate": "ids = self.tokenizer.encode(prompt) if prompt and prompt != '\\n' else self.opening()\n"
        "tokens = stream(self.model, ids, max_new_tokens, stop=list(stop) or None, "
        "tokenizer=self.tokenizer, **sampling)\n"
        "return self._texts(tokens)",
    }
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
