# SPDX-License-Identifier: MIT
"""kill.py URL PIDFILE ROUNDS SEED: traffic to a vLLM whose cache server is killed in the middle of every round.

What a prompt's answer must be is asked first, each prompt as a tenant of its own, so that nothing comes from the cache.
A round: four clients ask known and new prompts; after a random number of answers and a random moment the process named
in PIDFILE gets SIGKILL; the traffic goes on for a number of answers. Then every prompt that was answered before a kill is
asked once more, alone: it was stored, so it must come from the cache.
"""

import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "vllm"))
from ask import ask, prompt  # noqa: E402

CHUNK, CLIENTS, NEW_A_ROUND, ANSWERS_AFTER, SLOW_S = 256, 4, 4, 10, 60
SIZES = (272, 600, 1040, 1500)

url, pidfile, rounds, seed = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
print(f"seed {seed}", flush=True)


class Round:
    def __init__(self, names, truth):
        self.names, self.truth, self.lock = names, truth, threading.Lock()
        self.answered = []  # (name, began, ended, Answer)
        self.stop = False

    def client(self, rng):
        while not self.stop:
            name = rng.choice(self.names)
            began = time.monotonic()
            answer = ask(url, prompt(*name), timeout=SLOW_S)
            with self.lock:
                self.answered.append((name, began, time.monotonic(), answer))

    def until(self, answers):
        end = time.monotonic() + 2 * SLOW_S
        while len(self.answered) < answers and time.monotonic() < end:
            time.sleep(0.005)

    def run(self, answers_before, delay):
        threads = [threading.Thread(target=self.client, args=(random.Random(rng.random()),)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        self.until(answers_before)
        time.sleep(delay)
        self.killed = time.monotonic()
        os.kill(int(pidfile.read_text()), signal.SIGKILL)
        self.until(len(self.answered) + ANSWERS_AFTER)
        self.stop = True
        for thread in threads:
            thread.join()

    def wrong(self, answers):
        return [(name, answer) for name, answer in answers if answer.status == 200 and answer.tokens != self.truth[name]]


names = [(number, SIZES[number % len(SIZES)]) for number in range(1, NEW_A_ROUND * (rounds + 1) + 1)]
truth, failures = {}, []
for name in names:
    answer = ask(url, prompt(*name), salt=f"truth{name[0]}")
    if answer.status != 200 or answer.cached:
        sys.exit(f"no reference for prompt {name}: HTTP {answer.status}, {answer.cached} cached {answer.error}")
    truth[name] = answer.tokens
if len({tuple(tokens) for tokens in truth.values()}) < len(names) * 0.9:
    sys.exit("the reference answers hardly differ: this model cannot tell right from wrong")

print("round  answers before the kill  requests  in flight  not 200  wrong  slowest s  stored before  hit after", flush=True)
stored = set()
for number in range(1, rounds + 1):
    round_ = Round(names[:NEW_A_ROUND * (number + 1)], truth)
    before = rng.randint(3, 10)
    round_.run(before, rng.uniform(0, 0.3))
    stored |= {name for name, _, ended, answer in round_.answered if ended < round_.killed and answer.status == 200}
    in_flight = sum(began < round_.killed <= ended for _, began, ended, _ in round_.answered)
    after = [(name, ask(url, prompt(*name), timeout=SLOW_S)) for name in sorted(stored)]
    everything = [(name, answer) for name, _, _, answer in round_.answered] + after
    refused = [(name, answer) for name, answer in everything if answer.status != 200]
    wrong = round_.wrong(everything)
    hits = sum(answer.cached == name[1] // CHUNK * CHUNK for name, answer in after)
    slowest = max(answer.seconds for _, answer in everything)
    print(f"{number:5}  {before:23}  {len(everything):8}  {in_flight:9}  {len(refused):7}  {len(wrong):5}"
          f"  {slowest:9.2f}  {len(stored):13}  {hits:9}", flush=True)
    failures += [f"round {number}: prompt {name}: HTTP {answer.status}: {answer.error[:200]}" for name, answer in refused]
    failures += [f"round {number}: prompt {name}: {answer.tokens} instead of {truth[name]}, {answer.cached} tokens cached"
                 for name, answer in wrong]
    failures += [f"round {number}: prompt {name} was stored, but {answer.cached} tokens came from the cache"
                 for name, answer in after if answer.cached != name[1] // CHUNK * CHUNK]
    if refused:
        break
print("\n".join(failures))
sys.exit(1 if failures else 0)
