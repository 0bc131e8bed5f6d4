"""The exercises of Act IV: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import pytest

from tt_core.course.testing import CourseTests, KnockoutTests
from tt_language.command.cli import Act

MODULES = {module.name: module for module in Act().tt_modules()}

WRONG: dict[str, dict[str, list[str]]] = {
    "tokenization": {
        "CharTokenizer.encode": [
            "return [self._ids.get(c, 0) for c in text]",
            "return [ord(c) for c in text]",
            "return [self._ids[c] for c in sorted(text)]",
            "return sorted({self._ids[c] for c in text})",
        ],
        "ByteTokenizer.encode": [
            'return list(text.encode("utf-8", "replace"))',
            "return [ord(c) for c in text]",
            "return list(text.encode('utf-16'))",
        ],
        "Tokenizer.decode_bytes": [
            "skipped = self.special_ids if skip_special_tokens else ()\n"
            'return b"".join(self._bytes.get(i, b"") for i in id_list(ids) if i not in skipped)',
            "return b''.join(self._bytes[i] for i in id_list(ids))",
            "return b''.join(self._bytes[i] for i in id_list(ids) if i not in self.special_ids)",
            "return bytes(id_list(ids))",
        ],
        "Tokenizer.decode": [
            "return ''.join(self.decode_bytes([i], skip_special_tokens).decode('utf-8', 'replace') for i in ids)",
            "return self.decode_bytes(ids, skip_special_tokens).decode('utf-8')",
            "return self.decode_bytes(ids, skip_special_tokens).decode('utf-8', 'ignore')",
            "return self.decode_bytes(ids).decode('utf-8', 'replace')",
        ],
        "Splitter._cut_with_gaps": [
            "return self.pattern.findall(text)",
            "return [match.group() for match in self.pattern.finditer(text) if match.group()]",
            "pieces, end = [], 0\nfor match in self.pattern.finditer(text):\n"
            "    pieces += [text[end : match.start()], match.group()]\n    end = match.end()\n"
            "return [piece for piece in pieces if piece]",
            "return self.pattern.split(text)",
        ],
        "count_pieces": [
            "return Counter(texts.split() if isinstance(texts, str) else [w for t in texts for w in t.split()])",
            "split = splitter(pattern_of(pattern))\n"
            "return Counter(split(texts if isinstance(texts, str) else ''.join(texts)))",
            "split = splitter(PATTERNS['gpt2'])\ncounts = Counter()\n"
            "for text in [texts] if isinstance(texts, str) else texts:\n    counts.update(split(text))\nreturn counts",
        ],
        "merge_word": [
            # from the right
            "a, b = pair\nmerged, changes, i = [], [], len(word)\nwhile i:\n"
            "    if i > 1 and word[i - 2 : i] == [a, b]:\n        merged.insert(0, new)\n        i -= 2\n"
            "    else:\n        merged.insert(0, word[i - 1])\n        i -= 1\nreturn merged, changes",
            # old neighbours
            "a, b = pair\nmerged, changes, i = [], [], 0\nwhile i < len(word):\n"
            "    if word[i : i + 2] == [a, b]:\n"
            "        if i:\n            changes += [((word[i - 1], a), -1), ((word[i - 1], new), 1)]\n"
            "        if i + 2 < len(word):\n            changes += [((b, word[i + 2]), -1), ((new, word[i + 2]), 1)]\n"
            "        merged.append(new)\n        i += 2\n"
            "    else:\n        merged.append(word[i])\n        i += 1\nreturn merged, changes",
            # the first only
            "a, b = pair\nfor i in range(len(word) - 1):\n    if word[i : i + 2] == [a, b]:\n"
            "        return word[:i] + [new] + word[i + 2 :], []\nreturn word, []",
        ],
        "_PairTable.merge": [
            "made = defaultdict(set)\nfor w in where:\n"
            "    self.words[w], changes = merge_word(self.words[w], pair, new)\n"
            "    for changed, sign in changes:\n        self.counts[changed] += sign\n"
            "        if sign > 0:\n            made[changed].add(w)\nself._push(made)",
            "made = defaultdict(set)\nfor w in where:\n    _, changes = merge_word(self.words[w], pair, new)\n"
            "    for changed, sign in changes:\n        self.counts[changed] += sign * self.weights[w]\n"
            "        if sign > 0:\n            made[changed].add(w)\nself._push(made)",
            "for w in where:\n    self.words[w], changes = merge_word(self.words[w], pair, new)\n"
            "    for changed, sign in changes:\n        self.counts[changed] += sign * self.weights[w]",
        ],
        "_PairTable.pop": [
            "while self.heap:\n"
            "    count, pair, _, words = heapq.heappop(self.heap)\n"
            "    if -count == self.counts[pair]:\n"
            "        return (pair, words) if -count > min_frequency else None\n"
            "    self._push({pair: words})",
            "if not self.heap:\n    return None\ncount, pair, serial, where = heapq.heappop(self.heap)\n"
            "return (pair, where) if -count >= max(min_frequency, 1) else None",
            "while self.heap:\n    count, pair, serial, where = heapq.heappop(self.heap)\n"
            "    if self.counts[pair] >= max(min_frequency, 1):\n        return pair, where\nreturn None",
            "while self.heap:\n    count, pair, serial, where = heapq.heappop(self.heap)\n"
            "    if -count == self.counts[pair] and -count >= max(min_frequency, 1):\n"
            "        return pair, where\nreturn None",
        ],
        "learn_merges": [
            # no new counts
            "table, merges = _PairTable(words), []\n"
            "while len(tokens) < vocab_size and (best := table.pop(min_frequency)) is not None:\n"
            "    tokens.append(tokens[best[0][0]] + tokens[best[0][1]])\n    merges.append(best[0])\nreturn merges",
            # a token twice
            "table, merges = _PairTable(words), []\n"
            "while len(tokens) < vocab_size and (best := table.pop(min_frequency)) is not None:\n"
            "    tokens.append(tokens[best[0][0]] + tokens[best[0][1]])\n    merges.append(best[0])\n"
            "    table.merge(best[0], len(tokens) - 1, best[1])\nreturn merges",
            # one too many
            "table, merges = _PairTable(words), []\nids = {token: i for i, token in enumerate(tokens)}\n"
            "while len(tokens) <= vocab_size and (best := table.pop(min_frequency)) is not None:\n"
            "    spelling = tokens[best[0][0]] + tokens[best[0][1]]\n    new = ids.setdefault(spelling, len(tokens))\n"
            "    if new == len(tokens):\n        tokens.append(spelling)\n"
            "    table.merge(best[0], new, best[1])\n    merges.append(best[0])\nreturn merges",
        ],
        "merge_pairs": [
            # the leftmost pair
            "i = 0\nwhile i < len(ids) - 1:\n    best = rank.get((ids[i], ids[i + 1]))\n"
            "    if best is None:\n        i += 1\n    else:\n        ids[i : i + 2] = [merged[best]]\n"
            "        i = 0\nreturn ids",
            # the rightmost of equals
            "while True:\n    found = [(rank[p], -i) for i, p in enumerate(pairwise(ids)) if p in rank]\n"
            "    if not found:\n        return ids\n    best, i = min(found)\n"
            "    ids[-i : -i + 2] = [merged[best]]",
            # one merge
            "found = [(rank[p], i) for i, p in enumerate(pairwise(ids)) if p in rank]\n"
            "if found:\n    best, i = min(found)\n    ids[i : i + 2] = [merged[best]]\nreturn ids",
        ],
    },
    "embeddings": {
        "embedding": ["return weight[:, ids]", "return weight[ids.reshape(-1)]", "return weight[np.unique(ids)]"],
        "embedding_backward": [
            "total = np.zeros((size, g.shape[-1]), g.dtype)\ntotal[ids] += g\nif padding_idx is not None:\n"
            "    total[padding_idx] = 0\nreturn total",
            "total = np.zeros((size, g.shape[-1]), g.dtype)\nnp.add.at(total, ids, g)\nreturn total",
            "total = np.zeros((size, g.shape[-1]), g.dtype)\nnp.add.at(total, ids, g)\nif padding_idx:\n"
            "    total[padding_idx] = 0\nreturn total",
            "total = np.zeros((ids.max(initial=0) + 1, g.shape[-1]), g.dtype)\nnp.add.at(total, ids, g)\nreturn total",
        ],
        "Embedding._scale_down": [
            "table = self.weight.data\n"
            "for i in np.unique(ids):\n"
            "    norm = np.linalg.norm(table[i], self.norm_type)\n"
            "    if norm > most:\n"
            "        table[i] *= most / norm",
            # all rows
            "p, w = self.norm_type, self.weight.data\nnorms = (np.abs(w) ** p).sum(-1) ** (1 / p)\n"
            "w *= np.minimum(1, most / np.maximum(norms, 1e-7))[:, None]",
            # to the norm itself, not at most
            "p, used = self.norm_type, np.unique(ids)\nrows = self.weight.data[used]\n"
            "norms = (np.abs(rows) ** p).sum(-1) ** (1 / p)\n"
            "self.weight.data[used] = rows * (most / np.maximum(norms, 1e-7))[:, None]",
            # without absolute values
            "p, used = self.norm_type, np.unique(ids)\nrows = self.weight.data[used]\n"
            "norms = (rows**p).sum(-1) ** (1 / p)\n"
            "self.weight.data[used] = rows * np.minimum(1, most / np.maximum(norms, 1e-7))[:, None]",
            "used = np.unique(ids)\nrows = self.weight.data[used]\nnorms = np.linalg.norm(rows, axis=-1)\n"
            "self.weight.data[used] = rows * np.minimum(1, most / np.maximum(norms, 1e-7))[:, None]",
        ],
        "nearest": [
            # arrays alone
            "vector = source[query] if isinstance(query, int) else np.asarray(query)\n"
            "sizes = np.linalg.norm(source, axis=1) * np.linalg.norm(vector)\n"
            "found = np.divide(source @ vector, sizes, out=np.zeros(len(sizes)), where=sizes > 0)\n"
            "order = [int(i) for i in np.argsort(-found, kind='stable')]\n"
            "return [(i, float(found[i])) for i in order if not (isinstance(query, int) and i == query)][:k]",
            # products
            "table = table_of(source)\nvector = table[query] if isinstance(query, int) else np.asarray(query)\n"
            "found = table @ vector\n"
            "return [(int(i), float(found[i])) for i in np.argsort(-found, kind='stable') if i is not query][:k]",
            # with itself
            "table = table_of(source)\nvector = table[query] if isinstance(query, int) else np.asarray(query)\n"
            "lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(vector)\n"
            "found = table @ vector / np.maximum(lengths, 1e-9)\n"
            "return [(int(i), float(found[i])) for i in np.argsort(-found, kind='stable')][:k]",
            # nan for the zero vector
            "table = table_of(source)\nown = query if isinstance(query, int) else None\n"
            "vector = table[own] if own is not None else np.asarray(query)\n"
            "with np.errstate(invalid='ignore'):\n"
            "    found = table @ vector / (np.linalg.norm(table, axis=1) * np.linalg.norm(vector))\n"
            "return [(int(i), float(found[i])) for i in np.argsort(-found, kind='stable') if i != own][:k]",
        ],
        "sine_waves": [
            "angle = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)\n"
            "return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)",
            "angle = np.arange(max_length)[:, None] / base ** (np.arange(dim // 2) / dim)\n"
            "return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(max_length, dim)",
            "angle = np.arange(max_length)[:, None] * base ** (np.arange(0, dim, 2) / dim)\n"
            "return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(max_length, dim)",
            "angle = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)\n"
            "return np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(max_length, dim)",
        ],
        "plain_frequencies": [
            "return np.float32(theta) ** (-np.arange(dim // 2, dtype=np.float32) / np.float32(dim))",
            "return theta ** (-np.arange(0, dim, 2) / dim)",
        ],
        "rotary": [
            # neighbours
            "a, b = x[..., ::2], x[..., 1::2]\n"
            "return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape).astype(x.dtype)",
            # the other way round
            "half = x.shape[-1] // 2\na, b = x[..., :half], x[..., half:]\n"
            "return np.concatenate([a * cos + b * sin, b * cos - a * sin], -1)",
            "half = x.shape[-1] // 2\na, b = x[..., :half], x[..., half:]\n"
            "return np.concatenate([a * cos - b * sin, a * cos + b * sin], -1)",
        ],
        "RotaryEmbedding.angles": [
            "angle = np.asarray(positions)[..., None].astype(np.float32) * self.frequency\n"
            "return from_numpy(np.cos(angle)), from_numpy(np.sin(angle))",
            "where = np.asarray(positions)\nangle = where[..., None].astype(np.float32) / self._frequencies(where)\n"
            "angle = angle if where.ndim < 2 else angle[:, None]\nm = np.float32(self.magnitude)\n"
            "return from_numpy(np.cos(angle) * m), from_numpy(np.sin(angle) * m)",
            "where = np.asarray(positions)\nangle = where[..., None].astype(np.float32) * self._frequencies(where)\n"
            "angle = angle if where.ndim < 2 else angle[:, None]\n"
            "return from_numpy(np.cos(angle)), from_numpy(np.sin(angle))",
        ],
    },
    "attention": {
        "scale_of": [
            "return 1 / query.shape[-1] if scale is None else float(scale)",
            "return float(scale or 1 / math.sqrt(query.shape[-1]))",
            "return 1 / math.sqrt(query.shape[-2]) if scale is None else float(scale)",
        ],
        "split_heads": [
            "return x.reshape(x.shape[0], sum(heads), x.shape[1], -1)",
            "size = x.shape[-1] // sum(heads)\n"
            "apart = x.reshape(*x.shape[:-1], size, sum(heads)).swapaxes(-1, -2).swapaxes(-2, -3)\n"
            "ends = np.cumsum(heads).tolist()\n"
            "parts = tuple(apart[..., end - n : end, :, :] for n, end in zip(heads, ends))\n"
            "return parts if len(parts) > 1 else parts[0]",
        ],
        "join_heads": [
            "x = np.concatenate(parts, -3)\nreturn x.reshape(x.shape[0], x.shape[2], -1)",
            "x = np.concatenate(parts, -3).transpose(0, 2, 3, 1)\nreturn x.reshape(*x.shape[:2], -1)",
        ],
        "repeat_heads": [
            "return np.repeat(x, query.shape[-3] // x.shape[-3], -3)",  # of a tensor, too
            "groups = query.shape[-3] // x.shape[-3]\n"
            "return np.concatenate([x] * groups, -3) if isinstance(x, np.ndarray) else x.repeat_interleave(groups, -3)",
            "groups = query.shape[-3] // x.shape[-3]\n"
            "return np.repeat(x, groups, 0) if isinstance(x, np.ndarray) else x.repeat_interleave(groups, 0)",
        ],
        "attention_weights": [
            # a mask of the diagonal too
            "key = repeat_heads(key, query) if enable_gqa else key\nscores = query @ key.mT * scale_of(query, scale)\n"
            "if attn_mask is not None:\n"
            "    scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask\n"
            "if is_causal:\n"
            "    scores += np.where(np.tri(query.shape[-2], key.shape[-2], causal_offset - 1), 0, -np.inf)\n"
            "blind = np.isneginf(scores).all(-1, keepdims=True)\nreturn np.where(blind, 0, softmax.formula(scores))",
            # hidden after the softmax
            "key = repeat_heads(key, query) if enable_gqa else key\n"
            "w = softmax.formula(query @ key.mT * scale_of(query, scale))\n"
            "if attn_mask is not None:\n    w = w * attn_mask\n"
            "return w * np.tri(query.shape[-2], key.shape[-2], causal_offset, w.dtype) if is_causal else w",
            # nan for the blind
            "key = repeat_heads(key, query) if enable_gqa else key\nscores = query @ key.mT * scale_of(query, scale)\n"
            "if attn_mask is not None:\n"
            "    scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask\n"
            "if is_causal:\n"
            "    scores += np.where(np.tri(query.shape[-2], key.shape[-2], causal_offset), 0, -np.inf)\n"
            "return softmax.formula(scores)",
            # each key over the queries
            "scores = query @ key.mT * scale_of(query, scale)\nreturn softmax.formula(scores, -2)",
            # without the scale
            "return softmax.formula(query @ key.mT)",
            # the last query sees all
            "key = repeat_heads(key, query) if enable_gqa else key\nscores = query @ key.mT * scale_of(query, scale)\n"
            "if attn_mask is not None:\n"
            "    scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask\n"
            "if is_causal:\n"
            "    offset = key.shape[-2] - query.shape[-2]\n"
            "    scores += np.where(np.tri(query.shape[-2], key.shape[-2], offset), 0, -np.inf)\n"
            "blind = np.isneginf(scores).all(-1, keepdims=True)\nreturn np.where(blind, 0, softmax.formula(scores))",
        ],
        "scaled_dot_product_attention": [
            "w = attention_weights.formula(query, key, attn_mask, is_causal=is_causal, scale=scale,\n"
            "    enable_gqa=enable_gqa, causal_offset=causal_offset)\n"
            "value = repeat_heads(value, query) if enable_gqa else value\n"
            "if dropout_p:\n"
            "    w = w * dropout_scale(w, dropout_p, int(generator().integers(1 << 62)))\n"
            "return w @ value, np.asarray(0)",
            "weights = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
            "return weights @ (repeat_heads(value, query) if enable_gqa else value), np.asarray(0)",
            "weights = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
            "weights = weights * dropout_scale(weights, dropout_p, 7)\n"
            "return weights @ (repeat_heads(value, query) if enable_gqa else value), np.asarray(7)",
            "weights = attention_weights.formula(query, key, attn_mask, is_causal)\n"
            "return weights @ value, np.asarray(0)",
        ],
        "sum_groups": [
            "return x.reshape(*x.shape[:-3], groups, x.shape[-3] // groups, *x.shape[-2:]).sum(-4)",
            "return x.reshape(*x.shape[:-3], x.shape[-3] // groups, groups, *x.shape[-2:]).mean(-3)",
        ],
        "scaled_dot_product_attention_backward": [
            # softmax without its sum
            "groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1\n"
            "keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))\n"
            "w = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
            "s, c = w * (g @ values.mT), scale_of(query, scale)\n"
            "return s @ keys * c, sum_groups(s.mT @ query * c, groups), sum_groups(w.mT @ g, groups), np.empty(0)",
            # without the scale
            "groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1\n"
            "keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))\n"
            "w = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
            "s = g @ values.mT\ns = w * (s - (w * s).sum(-1, keepdims=True))\n"
            "return s @ keys, sum_groups(s.mT @ query, groups), sum_groups(w.mT @ g, groups), np.empty(0)",
            # without dropout, and with dropout in one of its two places
            *(
                "groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1\n"
                "keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))\n"
                "w = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
                "d, c = dropout_scale(w, dropout_p, int(seed or 0)), scale_of(query, scale)\n"
                f"a = (g @ values.mT){first}\n"
                "s = w * (a - (w * a).sum(-1, keepdims=True))\n"
                "mask = sum_to_shape(s, attn_mask.shape) if mask_gradient else np.empty(0)\n"
                f"return s @ keys * c, sum_groups(s.mT @ query * c, groups), sum_groups((w{then}).mT @ g, groups), mask"
                for first, then in (("", ""), (" * d", ""), ("", " * d"))
            ),
            # a mask's gradient that is not summed
            "groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1\n"
            "keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))\n"
            "w = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)\n"
            "s, c = g @ values.mT, scale_of(query, scale)\ns = w * (s - (w * s).sum(-1, keepdims=True))\n"
            "return s @ keys * c, sum_groups(s.mT @ query * c, groups), sum_groups(w.mT @ g, groups), s",
        ],
        "MultiHeadAttention.forward": [
            # rotated after the cache
            "q, k, v = self._projected(query, memory)\nif past is not None and memory is None:\n"
            "    k, v = past.extend(self, k, v)\nif angles is not None:\n"
            "    q, k = rotary(q, *angles), rotary(k, *angles)\n"
            "out, weights = self._attended(q, k, v, attn_mask, need_weights)\n"
            "out = self.out_proj(join_heads(out))\nreturn out if weights is None else (out, weights)",
            # values rotated
            "q, k, v = self._projected(query, memory)\nif angles is not None:\n"
            "    q, k, v = (rotary(x, *angles) for x in (q, k, v))\nif past is not None and memory is None:\n"
            "    k, v = past.extend(self, k, v)\n"
            "out, weights = self._attended(q, k, v, attn_mask, need_weights)\n"
            "out = self.out_proj(join_heads(out))\nreturn out if weights is None else (out, weights)",
            # heads not joined
            "q, k, v = self._projected(query, memory)\n"
            "out, weights = self._attended(q, k, v, attn_mask, need_weights)\n"
            "out = self.out_proj(out.reshape(query.shape))\nreturn out if weights is None else (out, weights)",
            # no projection out
            "q, k, v = self._projected(query, memory)\nif angles is not None:\n"
            "    q, k = rotary(q, *angles), rotary(k, *angles)\nif past is not None and memory is None:\n"
            "    k, v = past.extend(self, k, v)\n"
            "out, weights = self._attended(q, k, v, attn_mask, need_weights)\n"
            "return join_heads(out) if weights is None else (join_heads(out), weights)",
        ],
    },
    "transformers": {
        "rms_norm": [
            "x = x - np.mean(x, -1, keepdims=True)\n"
            "y = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))\n"
            "return y if weight is None else y * weight",
            "y = x / np.sqrt(np.mean(x * x) + eps_of(x, eps))\nreturn y if weight is None else y * weight",
            "y = x / (np.sqrt(np.mean(x * x, -1, keepdims=True)) + eps_of(x, eps))\n"
            "return y if weight is None else y * weight",
            "y = x / np.sqrt(np.sum(x * x, -1, keepdims=True) + eps_of(x, eps))\n"
            "return y if weight is None else y * weight",
        ],
        "rms_norm_backward": [
            # r as a constant
            "r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))\nu = g if weight is None else g * "
            "weight\n"
            "return r * u, (g * x * r).sum(tuple(range(g.ndim - 1)))",
            # the weight twice
            "r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))\nn = x * r\n"
            "u = g if weight is None else g * weight\n"
            "return r * (u - n * np.mean(u * n, -1, keepdims=True)), (u * n).sum(tuple(range(g.ndim - 1)))",
            "r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))\nn = x * r\n"
            "u = g if weight is None else g * weight\n"
            "return r * (u - n * np.mean(u * n)), (g * n).sum(tuple(range(g.ndim - 1)))",
        ],
        "FeedForward.forward": ["return self.down(self.up(x))", "return self.down(gelu(self.up(x)))"],
        "SwiGLU.forward": [
            "return self.down(silu(self.up(x)) * self.gate(x))",
            "return self.down(silu(self.gate(x) * self.up(x)))",
        ],
        "add_residual": [
            "return norm(x) + dropout(part(norm(x))) if norm_first else norm(x + dropout(part(x)))",
            "return dropout(x + part(norm(x))) if norm_first else norm(dropout(x + part(x)))",
            "return x + dropout(part(norm(x))) if norm_first else x + norm(dropout(part(x)))",
            "return x + dropout(norm(part(x))) if norm_first else norm(x + dropout(part(x)))",
            "return x + dropout(part(norm(x))) if norm_first else norm(x + part(x))",
        ],
        "TransformerBlock.forward": [
            # both read x
            "def attend(h):\n    return self.attention(h, None, attn_mask, angles=angles, past=past)\n"
            "if self.parallel:\n    h = self.norm1(x)\n    return x + self.dropout(attend(h) + self.mlp(h))\n"
            "y = self._add(x, attend, self.norm1)\n"
            "if memory is not None:\n"
            "    y = self._add(y, lambda h: self.cross_attention(h, memory, memory_mask), self.norm_cross)\n"
            "return y + self.mlp(self.norm2(x))",
            # the angles forgotten
            "def attend(h):\n    return self.attention(h, None, attn_mask, past=past)\n"
            "if self.parallel:\n    h = self.norm1(x)\n    return x + self.dropout(attend(h) + self.mlp(h))\n"
            "x = self._add(x, attend, self.norm1)\n"
            "if memory is not None:\n"
            "    x = self._add(x, lambda h: self.cross_attention(h, memory, memory_mask), self.norm_cross)\n"
            "return self._add(x, self.mlp, self.norm2)",
            # the past forgotten
            "def attend(h):\n    return self.attention(h, None, attn_mask, angles=angles)\n"
            "if self.parallel:\n    h = self.norm1(x)\n    return x + self.dropout(attend(h) + self.mlp(h))\n"
            "x = self._add(x, attend, self.norm1)\n"
            "if memory is not None:\n"
            "    x = self._add(x, lambda h: self.cross_attention(h, memory, memory_mask), self.norm_cross)\n"
            "return self._add(x, self.mlp, self.norm2)",
            # one norm
            "def attend(h):\n    return self.attention(h, None, attn_mask, angles=angles, past=past)\n"
            "x = self._add(x, attend, self.norm1)\nreturn self._add(x, self.mlp, self.norm2 or self.norm1)",
            # parts in the other order
            "def attend(h):\n    return self.attention(h, None, attn_mask, angles=angles, past=past)\n"
            "if self.parallel:\n    h = self.norm1(x)\n    return x + self.dropout(attend(h) + self.mlp(h))\n"
            "return self._add(self._add(x, self.mlp, self.norm2), attend, self.norm1)",
        ],
        "GPT.forward": [
            # no last norm
            "positions = np.arange(ids.shape[-1]) if positions is None else positions\nx = self.wte(ids)\n"
            "if self.wpe is not None:\n    x = x + self.wpe(positions)\n"
            "angles = None if self.rotary is None else self.rotary.angles(positions)\n"
            "for block in self.blocks:\n    x = block(x, attn_mask, angles=angles, past=past)\n"
            "return self.lm_head(x[:, -logits_to_keep:] if logits_to_keep else x)",
            # positions from 0
            "positions = np.arange(ids.shape[-1]) if positions is None else positions\nx = self.wte(ids)\n"
            "if self.wpe is not None:\n    x = x + self.wpe(positions)\n"
            "angles = None if self.rotary is None else self.rotary.angles(positions)\n"
            "x = self.dropout(x)\nfor block in self.blocks:\n    x = block(x, attn_mask, angles=angles, past=past)\n"
            "return self.lm_head(self.norm(x[:, -logits_to_keep:] if logits_to_keep else x))",
            # no mask
            "before = past.length if past else 0\n"
            "positions = np.arange(before, before + ids.shape[-1]) if positions is None else positions\nx = "
            "self.wte(ids)\n"
            "if self.wpe is not None:\n    x = x + self.wpe(positions)\n"
            "angles = None if self.rotary is None else self.rotary.angles(positions)\n"
            "x = self.dropout(x)\nfor block in self.blocks:\n    x = block(x, angles=angles, past=past)\n"
            "return self.lm_head(self.norm(x[:, -logits_to_keep:] if logits_to_keep else x))",
            # a past without begin
            "before = past.length if past else 0\n"
            "positions = np.arange(before, before + ids.shape[-1]) if positions is None else positions\nx = "
            "self.wte(ids)\n"
            "if self.wpe is not None:\n    x = x + self.wpe(positions)\n"
            "angles = None if self.rotary is None else self.rotary.angles(positions)\n"
            "x = self.dropout(x)\nfor block in self.blocks:\n    x = block(x, attn_mask, angles=angles, past=past)\n"
            "return self.lm_head(self.norm(x[:, -logits_to_keep:] if logits_to_keep else x))",
        ],
        "next_token_loss": [
            "return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))",
            "return cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), targets[:, 1:].reshape(-1))",
        ],
        "Sampling.penalized": [
            "logits = logits.copy()\nlogits[list(text)] /= self.repetition_penalty\nreturn logits",
            "logits = logits.copy()\nfor i in text:\n"
            "    logits[i] = logits[i] / self.repetition_penalty if logits[i] > 0 else logits[i] * "
            "self.repetition_penalty\n"
            "return logits",
            "for i in set(text):\n"
            "    logits[i] = logits[i] / self.repetition_penalty if logits[i] > 0 else logits[i] * "
            "self.repetition_penalty\n"
            "return logits",
        ],
        "_nucleus": [
            "order = np.argsort(-p, kind='stable')\nkept = order[np.cumsum(p[order]) <= top_p * p.sum()]\n"
            "result = np.zeros_like(p)\nresult[kept] = p[kept]\nreturn result",
            "order = np.argsort(-p, kind='stable')\nkept = order[np.cumsum(p[order]) - p[order] < top_p]\n"
            "result = np.zeros_like(p)\nresult[kept] = p[kept]\nreturn result",
            "return np.where(p >= (1 - top_p) * p.max(), p, 0)",
            "order = np.argsort(p, kind='stable')\nkept = order[np.cumsum(p[order]) - p[order] < top_p * p.sum()]\n"
            "result = np.zeros_like(p)\nresult[kept] = p[kept]\nreturn result",
        ],
        "Sampling.probabilities": [
            # temperature after the filters
            "p = np.exp(logits.astype(float) - logits.max())\nif self.top_k and self.top_k < len(p):\n"
            "    p = np.where(p >= np.sort(p)[-self.top_k], p, 0)\nif self.top_p:\n    p = _nucleus(p, self.top_p)\n"
            "if self.min_p:\n    p = np.where(p >= self.min_p * p.max(), p, 0)\nreturn p ** (1 / self.temperature)",
            # overflow
            "p = np.exp(logits.astype(float) / self.temperature)\nif self.top_k and self.top_k < len(p):\n"
            "    p = np.where(p >= np.sort(p)[-self.top_k], p, 0)\nif self.top_p:\n    p = _nucleus(p, self.top_p)\n"
            "if self.min_p:\n    p = np.where(p >= self.min_p * p.max(), p, 0)\nreturn p",
            # top_p before top_k
            "p = np.exp((logits.astype(float) - logits.max()) / self.temperature)\nif self.top_p:\n"
            "    p = _nucleus(p, self.top_p)\nif self.top_k and self.top_k < len(p):\n"
            "    p = np.where(p >= np.sort(p)[-self.top_k], p, 0)\n"
            "if self.min_p:\n    p = np.where(p >= self.min_p * p.max(), p, 0)\nreturn p",
            # a share of the sum
            "p = np.exp((logits.astype(float) - logits.max()) / self.temperature)\nif self.top_k and self.top_k < "
            "len(p):\n"
            "    p = np.where(p >= np.sort(p)[-self.top_k], p, 0)\nif self.top_p:\n    p = _nucleus(p, self.top_p)\n"
            "if self.min_p:\n    p = np.where(p >= self.min_p * p.sum(), p, 0)\nreturn p",
        ],
        "Sampling.choose": [
            "logits = self.without_repeats(self.penalized(logits, text), text)\nreturn int(logits.argmax())",
            # the penalty forgotten
            "if self.temperature == 0:\n    return int(logits.argmax())\nbelow = self.probabilities(logits).cumsum()\n"
            "return int(np.searchsorted(below, random.random() * below[-1], side='right'))",
            # a sum that is taken to be 1
            "logits = self.penalized(logits, text)\nif self.temperature == 0:\n    return int(logits.argmax())\n"
            "below = self.probabilities(logits).cumsum()\n"
            "return min(int(np.searchsorted(below, random.random(), side='right')), len(logits) - 1)",
            # another generator
            "logits = self.penalized(logits, text)\nif self.temperature == 0:\n    return int(logits.argmax())\n"
            "p = self.probabilities(logits)\nreturn int(np.random.default_rng().choice(len(p), p=p / p.sum()))",
        ],
        "_steps": [
            # the new tokens forgotten
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base, row]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
            # without min_new_tokens
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base, row]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
            # one generator for all rows
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng(base)] * len(texts)\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
            # the same numbers in each row
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
            # in training mode
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base, row]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    reader.model.train()\n"
            "    logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
            # rows that have ended go on
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base, row]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([texts[row] + new[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return",
            # only the new tokens
            "base = int(generator().integers(1 << 62)) if seed is None else seed\n"
            "texts = reader.prompts\n"
            "random = [np.random.default_rng([base, row]) for row in range(len(texts))]\n"
            "new, alive = [[] for _ in texts], list(range(len(texts)))\n"
            "for _ in range(max_new_tokens):\n"
            "    with evaluating(reader.model):\n"
            "        logits = reader.logits([new[row] or texts[row] for row in alive])\n"
            "    for row, its_logits in zip(alive, logits):\n"
            "        token = sampling.choose(its_logits, texts[row] + new[row], random[row])\n"
            "        new[row].append(token)\n"
            "        yield row, token\n"
            "    going = [i for i, row in enumerate(alive) if not ended(new[row])]\n"
            "    if not going:\n"
            "        return\n"
            "    if len(going) < len(alive):\n"
            "        reader.select(going)\n"
            "        alive = [alive[i] for i in going]",
        ],
    },
}

RIGHT: dict[str, dict[str, str]] = {
    "tokenization": {
        "CharTokenizer.encode": "ids = []\nfor c in check_text(text):\n    if c not in self._ids:\n"
        "        raise TokenizerError(f'{c!r} is not in the vocabulary')\n    ids.append(self._ids[c])\nreturn ids",
        "ByteTokenizer.encode": "return [int(byte) for byte in bytes(check_text(text), 'utf8')]",
        "Tokenizer.decode_bytes": "out = bytearray()\nfor i in id_list(ids):\n    if i not in self._bytes:\n"
        "        raise TokenizerError(f'no token has the id {i}')\n"
        "    if i in self.special_ids and skip_special_tokens:\n        continue\n    out += self._bytes[i]\n"
        "return bytes(out)",
        "Tokenizer.decode": "return str(self.decode_bytes(ids, skip_special_tokens), 'utf-8', 'replace')",
        "Splitter._cut_with_gaps": "spans = [m.span() for m in self.pattern.finditer(text, timeout=timeout)]\n"
        "cuts = [0, *(place for span in spans for place in span), len(text)]\n"
        "return [text[a:b] for a, b in zip(cuts, cuts[1:]) if b > a]",
        "count_pieces": "split, texts = splitter(pattern_of(pattern)), [texts] if isinstance(texts, str) else texts\n"
        "return Counter(piece for text in texts for piece in split(check_text(text)))",
        # all pairs are counted before and after
        "merge_word": "out = []\ni = 0\nwhile i < len(word):\n"
        "    if i + 1 < len(word) and word[i] == pair[0] and word[i + 1] == pair[1]:\n        out.append(new)\n"
        "        i = i + 2\n    else:\n        out.append(word[i])\n        i = i + 1\nbefore, after = {}, {}\n"
        "for p in pairwise(word):\n    before[p] = before.get(p, 0) + 1\nfor p in pairwise(out):\n"
        "    after[p] = after.get(p, 0) + 1\nchanges = []\nfor p in {**before, **after}:\n"
        "    difference = after.get(p, 0) - before.get(p, 0)\n    if difference != 0 and p != pair:\n"
        "        changes.append((p, difference))\nreturn out, changes",
        "_PairTable.pop": "while self.heap:\n    noted, pair, serial, words = self.heap[0]\n"
        "    now = self.counts[pair]\n"
        "    if now != -noted:\n        heapq.heapreplace(self.heap, (-now, pair, serial, words))\n        continue\n"
        "    heapq.heappop(self.heap)\n    return (pair, words) if now > 0 and now >= min_frequency else None\n"
        "return None",
        "_PairTable.merge": "made = {}\nfor w in sorted(where):\n"
        "    word, changes = merge_word(self.words[w], pair, new)\n"
        "    self.words[w] = word\n    for other, by in changes:\n"
        "        self.counts[other] = self.counts[other] + by * self.weights[w]\n        if by == 1:\n"
        "            made.setdefault(other, set()).add(w)\nself._push(made)",
        # every pair is counted again for each merge
        "learn_merges": "words = [(list(word), n) for word, n in words.items()]\n"
        "ids = {s: i for i, s in enumerate(tokens)}\n"
        "merges = []\nwhile len(tokens) < vocab_size:\n    counts = {}\n    for word, n in words:\n"
        "        for pair in pairwise(word):\n            counts[pair] = counts.get(pair, 0) + n\n"
        "    best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)\n"
        "    if best is None or counts[best] < max(min_frequency, 1):\n        break\n"
        "    spelling = tokens[best[0]] + tokens[best[1]]\n    if spelling not in ids:\n"
        "        ids[spelling] = len(tokens)\n        tokens.append(spelling)\n    merges.append(best)\n"
        "    words = [(merge_word(word, best, ids[spelling])[0], n) for word, n in words]\nreturn merges",
        "merge_pairs": "while True:\n    known = [(rank[p], i) for i, p in enumerate(pairwise(ids)) if p in rank]\n"
        "    if not known:\n        return ids\n    best, i = min(known)\n    ids[i] = merged[best]\n"
        "    del ids[i + 1]",
    },
    "embeddings": {
        "embedding": "return np.take(weight, ids, axis=0)",
        # a matrix with a 1 for each id, times the rows
        "embedding_backward": "flat = np.asarray(ids).reshape(-1)\n"
        "one_hot = (np.arange(size)[:, None] == flat).astype(g.dtype)\n"
        "total = one_hot @ g.reshape(len(flat), g.shape[-1])\nif padding_idx is not None:\n"
        "    total[padding_idx] = 0\nreturn total",
        "Embedding._scale_down": "table = self.weight.data\nfor i in set(ids.reshape(-1).tolist()):\n"
        "    row = table[i]\n"
        "    size = float(np.sum(np.abs(row.astype(np.float64)) ** self.norm_type) ** (1 / self.norm_type))\n"
        "    if size > most:\n        table[i] = row * (most / size)\n        mutation.record(table)",
        "nearest": "table = table_of(source)\n"
        "vector = table[query] if isinstance(query, int) else np.asarray(query, table.dtype)\n"
        "sizes = np.linalg.norm(table, axis=1) * np.linalg.norm(vector)\nscores = []\nfor i, row in enumerate(table):\n"
        "    if not (isinstance(query, int) and i == query):\n"
        "        scores.append((-(row @ vector) / sizes[i] if sizes[i] else 0.0, i))\n"
        "return [(i, float(-score)) for score, i in sorted(scores)[:k]]",
        "sine_waves": "waves = np.empty((max_length, dim))\nfor i in range(0, dim, 2):\n"
        "    angle = np.arange(max_length) / base ** (i / dim)\n    waves[:, i] = np.sin(angle)\n"
        "    waves[:, i + 1] = np.cos(angle)\nreturn waves",
        "plain_frequencies": "power = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)\n"
        "return (1 / np.float32(theta) ** power).astype(np.float32)",
        # by complex numbers
        "rotary": "n = x.shape[-1] // 2\nturned = (x[..., :n] + 1j * x[..., n:]) * (cos + 1j * sin)\n"
        "return np.concatenate([turned.real, turned.imag], -1).astype(x.dtype)",
        "RotaryEmbedding.angles": "where = np.asarray(positions)\nif where.size and (where.min() < 0\n"
        "        or (where.max() >= self.max_length and not endless)):\n"
        "    raise OutOfRangeError(f'a position is not below {self.max_length}')\n"
        "where = where if where.ndim == 1 else where[:, None]\n"
        "angle = np.expand_dims(where, -1).astype(np.float32) * self._frequencies(np.asarray(positions))\n"
        "angle = np.cos(angle) * np.float32(self.magnitude), np.sin(angle) * np.float32(self.magnitude)\n"
        "return from_numpy(angle[0]), from_numpy(angle[1])",
    },
    "attention": {
        "scale_of": "return float(query.shape[-1]) ** -0.5 if scale is None else scale",
        "split_heads": "all_heads, start, parts = sum(heads), 0, []\nif x.shape[-1] % all_heads:\n"
        "    raise ValueError(f'{x.shape[-1]} features do not divide into {all_heads} heads')\n"
        "size = x.shape[-1] // all_heads\nfor n in heads:\n    part = x[..., start * size : (start + n) * size]\n"
        "    parts.append(np.swapaxes(part.reshape(*x.shape[:-1], n, size), -3, -2))\n    start += n\n"
        "return tuple(parts) if len(parts) > 1 else parts[0]",
        "join_heads": "flat = [np.moveaxis(x, -3, -2).reshape(*x.shape[:-3], x.shape[-2], -1) for x in parts]\n"
        "return np.concatenate(flat, axis=-1)",
        "repeat_heads": "groups = query.shape[-3] // x.shape[-3]\n"
        "index = np.arange(query.shape[-3]) // groups\nreturn x[..., index, :, :]",
        "attention_weights": "key = repeat_heads(key, query) if enable_gqa else key\n"
        "scores = np.einsum('...td,...sd->...ts', query, key) * query.dtype.type(scale_of(query, scale))\n"
        "t, s = scores.shape[-2:]\nsees = np.ones((t, s), bool)\nif is_causal:\n"
        "    sees = np.arange(s) <= np.arange(t)[:, None] + causal_offset\nif attn_mask is not None:\n"
        "    if attn_mask.dtype == bool:\n        sees = sees & attn_mask\n    else:\n"
        "        scores = scores + attn_mask\nscores = np.where(sees, scores, -np.inf)\n"
        "top = scores.max(-1, keepdims=True, initial=-np.inf)\n"
        "e = np.exp(scores - np.where(np.isneginf(top), 0, top))\n"
        "total = e.sum(-1, keepdims=True)\nreturn (e / np.where(total == 0, 1, total)).astype(query.dtype)",
        "scaled_dot_product_attention": "w"
        "eights = attention_weights.formula(query, key, attn_mask, is_causal=is_causal,\n"
        "    scale=scale, enable_gqa=enable_gqa, causal_offset=causal_offset)\n"
        "value = repeat_heads(value, query) if enable_gqa else value\nseed = 0\nif dropout_p > 0:\n"
        "    seed = int(generator().integers(1 << 62))\n"
        "    weights = weights * dropout_scale(weights, dropout_p, seed)\n"
        "return np.einsum('...ts,...se->...te', weights, value), np.array(seed)",
        "sum_groups": "return x if groups == 1 else sum(x[..., i::groups, :, :] for i in range(groups))",
        "scaled_dot_product_attention_backward": "groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1\n"
        "keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))\n"
        "w = attention_weights.formula(query, keys, attn_mask, is_causal=is_causal, scale=scale,\n"
        "    causal_offset=causal_offset)\n"
        "d = dropout_scale(w, dropout_p, 0 if seed is None else int(seed))\n"
        "a = np.einsum('...te,...se->...ts', g, values) * d\n"
        "s = w * a - w * np.einsum('...ts,...ts->...t', w, a)[..., None]\nc = scale_of(query, scale)\n"
        "dq = np.einsum('...ts,...sd->...td', s, keys) * c\ndk = np.einsum('...ts,...td->...sd', s, query) * c\n"
        "dv = np.einsum('...ts,...te->...se', w * d, g)\n"
        "mask = s if mask_gradient else np.zeros(0, s.dtype)\n"
        "mask = sum_to_shape(mask, attn_mask.shape) if mask_gradient and attn_mask is not None else mask\n"
        "return dq, sum_groups(dk, groups), sum_groups(dv, groups), mask",
        "MultiHeadAttention.forward": "q, k, v = self._projected(query, memory)\nif angles:\n    cos, sin = angles\n"
        "    q, k = rotary(q, cos, sin), rotary(k, cos, sin)\nif past is not None and memory is None:\n"
        "    k, v = past.extend(self, k, v)\nout, weights = self._attended(q, k, v, attn_mask, need_weights)\n"
        "out = self.out_proj(out.transpose(1, 2).flatten(2))\nreturn (out, weights) if need_weights else out",
    },
    "transformers": {
        "rms_norm": "wide = x.astype(np.promote_types(x.dtype, np.float32))\n"
        "length = np.linalg.norm(wide, axis=-1, keepdims=True)\n"
        "y = wide / np.sqrt(length * length / x.shape[-1] + eps_of(x, eps))\n"
        "return (y if weight is None else y * weight).astype(x.dtype)",
        "rms_norm_backward": "n = x.shape[-1]\nr = (np.square(x).sum(-1, keepdims=True) / n + eps_of(x, eps)) ** -0.5\n"
        "u = g if weight is None else g * weight\n"
        "dx = u * r - x * r**3 * (u * x).sum(-1, keepdims=True) / n\n"
        "return dx, np.einsum('nd,nd->d', g.reshape(-1, n), (x * r).reshape(-1, n))",
        "FeedForward.forward": "hidden = self.up(x)\nhidden = ACTIVATIONS[self.activation](hidden)\n"
        "return self.down(hidden)",
        "SwiGLU.forward": "gate = self.gate(x)\nreturn self.down(gate * gate.sigmoid() * self.up(x))",
        "add_residual": "if not norm_first:\n    return norm(dropout(part(x)) + x)\nreturn dropout(part(norm(x))) + x",
        "TransformerBlock.forward": "if (self.cross_attention is None) != (memory is None):\n"
        "    raise ConfigError('memory goes with cross attention')\n"
        "look = lambda h: self.attention(h, attn_mask=attn_mask, angles=angles, past=past)\n"
        "if self.parallel:\n    read = self.norm1(x)\n    return x + self.dropout(self.mlp(read) + look(read))\n"
        "parts = [(look, self.norm1)]\nif memory is not None:\n"
        "    parts.append((lambda h: self.cross_attention(h, memory, memory_mask), self.norm_cross))\n"
        "for part, norm in [*parts, (self.mlp, self.norm2)]:\n"
        "    x = add_residual(x, part, norm, self.dropout, self.norm_first)\nreturn x",
        "GPT.forward": "if logits_to_keep < 0:\n    raise ShapeError('logits_to_keep is negative')\n"
        "length = ids.shape[-1]\nbefore = 0 if past is None else past.length\n"
        "if before + length > self.config.block_size:\n    raise ShapeError('the text is too long')\n"
        "attn_mask = past.begin(ids, positions, attn_mask) if hasattr(past, 'begin') else attn_mask\n"
        "where = np.arange(before, before + length) if positions is None else positions\n"
        "h, angles = self.wte(ids), None\nif self.wpe is not None:\n    h = h + self.wpe(where)\n"
        "if self.rotary is not None:\n    angles = self.rotary.angles(where)\nh = self.dropout(h)\n"
        "for block in self.blocks:\n    h = block(h, attn_mask, past=past, angles=angles)\nh = self.norm(h)\n"
        "return self.lm_head(h if not logits_to_keep else h[:, -logits_to_keep:])",
        "next_token_loss": "logits, targets = (x if isinstance(x, Tensor) else Tensor(x) for x in (logits, targets))\n"
        "if logits.shape[:-1] != targets.shape:\n    raise ShapeError('a target for each position')\n"
        "classes = logits.shape[-1]\n"
        "return cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_index)",
        "Sampling.penalized": "found = np.array(logits)\nfor i in set(text):\n"
        "    if self.repetition_penalty != 1:\n"
        " "
        "       found[i] = found[i] / self.repetition_penalty if found[i] > 0 else found[i] * self.repetition_penalty\n"
        "return found",
        "_nucleus": "kept, total = np.zeros_like(p), 0.0\nfor i in sorted(range(len(p)), key=lambda i: -p[i]):\n"
        "    if total >= top_p * p.sum():\n        break\n    kept[i] = p[i]\n    total += p[i]\nreturn kept",
        "Sampling.probabilities": "z = (logits - logits.max()) / self.temperature\np = np.exp(z)\n"
        "if self.top_k is not None and self.top_k < len(z):\n    p[z < np.sort(z)[::-1][self.top_k - 1]] = 0\n"
        "if self.top_p is not None:\n    p = _nucleus(p, self.top_p)\n"
        "if self.min_p is not None:\n    p[p < self.min_p * p.max()] = 0\nreturn p",
        "Sampling.choose": "logits = self.without_repeats(self.penalized(logits, text), text)\n"
        "check_largest(logits.max())\n"
        "if self.temperature == 0:\n    return int(np.argmax(logits))\np = self.probabilities(logits)\n"
        "return int(random.choice(len(p), p=p / p.sum()))",
        # the reader is told of the end of the last row too
        "_steps": "rngs = []\nfor row in range(len(reader.prompts)):\n"
        "    rngs.append(generator() if seed is None else np.random.default_rng([seed, row]))\n"
        "texts = [list(t) for t in reader.prompts]\nnew = [[] for _ in texts]\nalive = list(range(len(texts)))\n"
        "end = list(getattr(reader.model.config, 'end_ids', ()))\nwith evaluating(reader.model):\n"
        "    for step in range(max_new_tokens):\n        if not alive:\n            return\n"
        "        logits = reader.logits([texts[row] for row in alive])\n        keep = []\n"
        "        for i, row in enumerate(alive):\n            one = logits[i]\n"
        "            if step < min_new_tokens and end:\n                one = one.copy()\n"
        "                one[end] = -np.inf\n            token = sampling.choose(one, texts[row], rngs[row])\n"
        "            texts[row].append(token)\n            new[row].append(token)\n"
        "            if not ended(new[row]):\n                keep.append(i)\n            yield row, token\n"
        "        if len(keep) < len(alive):\n            reader.select(keep)\n"
        "            alive = [alive[i] for i in keep]",
    },
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
    harmless = (("Sampling.probabilities", "half"),)  # they need not add up to 1
