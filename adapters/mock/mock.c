/* SPDX-License-Identifier: MIT
 *
 * mock.c - the built-in type "mock": LMCache's {"type":"mock","max_size_gb":1,"mock_bandwidth_gb":20}, a store for
 * trying things out. It is the store of adapters/memory under its other name, in the engine instead of a plugin. */
#define MEMORY_BUILTIN
#define MEMORY_NAME "mock"
#define MEMORY_SHOWN "MockL2Adapter"
#include "../memory/memory.c"
