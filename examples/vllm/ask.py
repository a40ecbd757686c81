# SPDX-License-Identifier: MIT
"""Asks vLLM: ask.py URL SEED:TOKENS... prints one line per prompt, in order: what was asked, HTTP status, seconds,
how many prompt tokens came from the cache, and the 16 tokens of the answer.

Prompts are lists of token ids that follow from a number, so no tokenizer is needed. Greedy, with a fixed seed: the same
prompt has one right answer.
"""

import json
import sys
import time
import urllib.error
import urllib.request


def prompt(seed, tokens):
    """Two seeds share no prefix."""
    return [5 + (seed * 7919 + i * 104729 + i * i * 31) % 4000 for i in range(tokens)]


class Answer:
    """status: 200, another HTTP status, or 0 when nothing was answered; tokens: a list; cached: prompt tokens."""

    def __init__(self, status, seconds, tokens=(), cached=0, error=""):
        self.status, self.seconds, self.tokens, self.cached, self.error = status, seconds, tokens, cached, error


def ask(url, tokens, salt=None, timeout=120):
    body = {"model": "tiny", "prompt": tokens, "max_tokens": 16, "temperature": 0, "seed": 1, "ignore_eos": True,
            "return_token_ids": True}
    if salt:
        body["cache_salt"] = salt
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        return Answer(error.code, time.monotonic() - started, error=error.read().decode(errors="replace"))
    except OSError as error:
        return Answer(0, time.monotonic() - started, error=str(error))
    details = answer["usage"].get("prompt_tokens_details") or {}
    return Answer(200, time.monotonic() - started, answer["choices"][0]["token_ids"], details.get("cached_tokens", 0))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        seed, tokens = map(int, name.split(":"))
        answer = ask(sys.argv[1], prompt(seed, tokens))
        print(name, answer.status, f"{answer.seconds:.2f}", answer.cached, *answer.tokens or [answer.error], flush=True)
