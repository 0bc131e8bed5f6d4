"""`tinygpt serve`: a model behind OpenAI's interface, and a page. Read in this order:

    text.py          which characters may be shown: stop strings, half characters
    continuation.py  one continuation: options, random numbers, tokens, log probabilities
    engine.py        continuous batching: all continuations advance together, in one thread
    schema.py        JSON and its schemas
    requests.py      what a request may hold, and what the engine is asked for
    conversation.py  a chat as a prompt
    answers.py       answers in OpenAI's form
    api.py           the application: paths, whole and streamed answers, errors
    guard.py         who may ask
    metrics.py, attention.py, openapi.py, page.py
    run.py           the HTTP server

`api.py` and the last five need the extra `tinygpt[serve]`, so this package imports nothing itself.
"""

from __future__ import annotations
