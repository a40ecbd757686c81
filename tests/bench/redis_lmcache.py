# SPDX-License-Identifier: MIT
#
# redis_lmcache.py PORT BYTES COUNT BATCH WORKERS: what redis.c measures, through the client behind LMCache's `resp`
# store. Run by the Python that has LMCache.
import json
import select
import sys
import time

from lmcache.lmcache_redis import LMCacheRedisClient


def wait(client):
    while True:
        select.select([client.event_fd()], [], [])
        for _, ok, error, _ in client.drain_completions():
            if not ok:
                sys.exit(error)
            return


def measure(submit, client, keys, views, batch):
    start = time.monotonic()
    for first in range(0, len(keys), batch):
        submit(keys[first : first + batch], views[first : first + batch])
        wait(client)
    return sum(map(len, views)) / (time.monotonic() - start) / 1e9


def main():
    port, size, count, batch, workers = map(int, sys.argv[1:])
    client = LMCacheRedisClient("127.0.0.1", port, workers, "", "")
    keys = ["lmcache/tiny@01000100@0@%064x" % n for n in range(count)]
    whole = bytearray(size * count)
    for n in range(count):
        whole[n * size : (n + 1) * size] = n.to_bytes(8, "little") * (size // 8)
    before = bytes(whole)
    views = [memoryview(whole)[n * size : (n + 1) * size] for n in range(count)]
    store = measure(client.submit_batch_set, client, keys, views, batch)
    memoryview(whole)[:] = bytes(len(whole))
    load = measure(client.submit_batch_get, client, keys, views, batch)
    client.close()
    print(json.dumps({"store_gb_s": store, "load_gb_s": load, "wrong": int(bytes(whole) != before)}))


main()
