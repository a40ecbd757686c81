# SPDX-License-Identifier: MIT
#
# replay.py NEAP [REPETITIONS]: `neap replay` beside libCacheSim, in one run: the same traces, policies and sizes, one
# thread each, processor time of the requests alone. Prints medians and spreads in millions of accesses per second, and
# the hit ratios beside each other. replay.sh brings what this needs.
#
# Traces are handed to both as the same oracleGeneral file, an access a record; "in requests" is neap on the trace as it
# was recorded, whole requests at a time. A trace is repeated, for all alike, until it has two million accesses: what is
# compared is how fast policies are, not how they start. libCacheSim gets a hash table that fits the trace, and its
# default one; the better of the two counts.
import json
import lzma
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict

import libcachesim

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
POLICIES = {'lru': libcachesim.LRU, 's3fifo': libcachesim.S3FIFO, 'arc': libcachesim.ARC}
SHARE = 0.05
ACCESSES = 2000000
PLUGIN_ACCESSES = 300000  # enough for what takes a microsecond each


def write_recorded(source, path, oracle):
    """A trace in Mooncake's format, repeated: as it is, and an access a record with the last id of a request first."""
    with lzma.open(source, 'rt') as lines:
        lines = lines.readlines()
    once = [name for line in lines for name in reversed(json.loads(line)['hash_ids'])]
    times = -(-ACCESSES // len(once))
    with open(path, 'w') as file:
        file.writelines(lines * times)
    return write_oracle(oracle, once * times)


def zipf(count, distinct, alpha, seed):
    """Independent references to objects whose popularity falls with the rank."""
    draw = random.Random(seed)
    weights = [1 / rank ** alpha for rank in range(1, distinct + 1)]
    return draw.choices(range(distinct), weights, k=count)


def write_oracle(path, ids):
    """oracleGeneral: time, id, size, when the object is accessed next; little-endian."""
    ids = list(ids)
    following, last = [0] * len(ids), {}
    for at in range(len(ids) - 1, -1, -1):
        following[at] = last.get(ids[at], -1)
        last[ids[at]] = at
    with open(path, 'wb') as file:
        for at, name in enumerate(ids):
            file.write(struct.pack('<IQIq', at // 1000, name + 1, 1, following[at]))
    return len(ids), len(last)


def lru_plugin(size):
    """The LRU of libCacheSim's documentation of plugins: hooks over an OrderedDict."""

    def hit(cache, request):
        cache.move_to_end(request.obj_id)

    def miss(cache, request):
        cache[request.obj_id] = None

    def evict(cache, request):
        return cache.popitem(last=False)[0]

    def remove(cache, name):
        del cache[name]

    return libcachesim.PluginCache(
        cache_size=size, cache_init_hook=lambda params: OrderedDict(), cache_hit_hook=hit, cache_miss_hook=miss,
        cache_eviction_hook=evict, cache_remove_hook=remove, cache_free_hook=lambda cache: None, cache_name='lru')


def run_peer(path, count, make, most=-1):
    reader = libcachesim.TraceReader(path, libcachesim.TraceType.ORACLE_GENERAL_TRACE,
                                     libcachesim.ReaderInitParam(ignore_obj_size=True))
    cache = make()
    began = time.process_time()
    missed, _ = cache.process_trace(reader, max_req=most)
    count = count if most < 0 else min(count, most)
    return count / (time.process_time() - began), 1 - missed


def run_neap(neap, path, size, policies, *words):
    done = subprocess.run(
        [neap, 'replay', path, '--json', '--threads', '1', '--size', str(size), '--policy', ','.join(policies), *words],
        check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line['accesses_per_s'], line['block_hit_ratio']) for line in lines]


class Figures:
    def __init__(self):
        self.rates, self.ratios = {}, {}

    def add(self, name, result):
        self.rates.setdefault(name, []).append(result[0] * 1e-6)
        self.ratios[name] = result[1]

    def median(self, name):
        return statistics.median(self.rates[name])

    def show(self, name, beside):
        rates = self.rates[name]
        ratio = f'{self.median(name) / self.median(beside):6.2f}' if beside else ''
        print(f'  {name:<34} {self.median(name):8.2f} {min(rates):8.2f} {max(rates):8.2f}   {self.ratios[name]:.4f}'
              f' {ratio}')


def measure(neap, name, path, recorded, count, distinct, repetitions):
    size = max(1, int(distinct * SHARE))
    power = max(10, distinct.bit_length())
    lua = {p: os.path.join(ROOT, 'lua/neap/policies', p + '.lua') for p in POLICIES}
    lua = {p: file for p, file in lua.items() if os.path.exists(file)}
    figures = Figures()
    for _ in range(repetitions):  # one after the other, so that what else the machine does hits all alike
        for policy, make in POLICIES.items():
            figures.add(f'{policy} libCacheSim', max(
                run_peer(path, count, lambda: make(cache_size=size, hashpower=power)),
                run_peer(path, count, lambda: make(cache_size=size))))
        names = list(POLICIES) + list(lua.values())
        labels = [f'{p} neap' for p in POLICIES] + [f'{p} neap, Lua' for p in lua]
        for label, result in zip(labels, run_neap(neap, path, size, names, '--ignore-sizes')):
            figures.add(label, result)
        if recorded:
            for label, result in zip(labels, run_neap(neap, recorded, size, names)):
                figures.add(label + ', in requests', result)
    for _ in range(min(3, repetitions)):
        figures.add('lru libCacheSim, Python plugin', run_peer(path, count, lambda: lru_plugin(size),
                                                                PLUGIN_ACCESSES))
    print(f'\n{name}: {count:,} accesses, {distinct:,} distinct, {size:,} kept')
    print(f'  {"million accesses/s":<34} {"median":>8} {"least":>8} {"most":>8}   hit ratio, times libCacheSim')
    for policy in POLICIES:
        for label in sorted(figures.rates):
            if label.split()[0] == policy:
                figures.show(label, f'{policy} libCacheSim' if 'neap' in label else None)
    if 'lru' in lua:
        print(f'  lru: Lua is {figures.median("lru neap") / figures.median("lru neap, Lua"):.2f} times slower than C, '
              f'{figures.median("lru neap, Lua") / figures.median("lru libCacheSim, Python plugin"):.0f} times faster '
              f'than the Python plugin')


def main():
    neap, repetitions = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
    data = os.path.join(ROOT, 'tests/data')
    print(f'libCacheSim {libcachesim.__version__}, medians of {repetitions}')
    with tempfile.TemporaryDirectory() as directory:
        for name in ('mooncake_conversation', 'lmcache_agents_256ch'):
            recorded, path = (os.path.join(directory, name + ending) for ending in ('.jsonl', '.oracleGeneral'))
            count, distinct = write_recorded(os.path.join(data, name + '.jsonl.xz'), recorded, path)
            measure(neap, name, path, recorded, count, distinct, repetitions)
        path = os.path.join(directory, 'zipf.oracleGeneral')
        count, distinct = write_oracle(path, zipf(ACCESSES, 100000, 1.0, 1))
        measure(neap, 'zipf', path, None, count, distinct, repetitions)


main()
