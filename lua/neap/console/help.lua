-- SPDX-License-Identifier: MIT
--
-- neap.console.help - what help() and .help print. What follows a "> " is run by a test, topic after topic.

local TOPICS = {}

TOPICS.start = [[
Type Lua: an expression shows its values, a statement runs; _ is the last value. What is not complete goes on in the
next line. Ctrl-C interrupts, Ctrl-D or .quit leaves. Each evaluation may await, so neap.sleep and stores work here.

  > 2 ^ 10
  > engine:status().l1
  > for i = 1, 3 do print(i) end

topics (.help TOPIC): start, commands, engine, store, adapters, live, policies, values, limits]]

TOPICS.commands = [[
  .help [TOPIC]   this, or one topic
  .edit [FILE]    edit FILE, or what was typed last, in $VISUAL or $EDITOR, then run it
  .load FILE      run a file
  .time CODE      run CODE and tell how long it took
  .quit           leave

Tab completes globals, fields and methods. History: ~/.local/state/neap/history (XDG_STATE_HOME).]]

TOPICS.engine = [[
  > engine:status()                 figures of L1, lookups, stores, eviction
  > engine:chunks { limit = 5 }     what is in L1; also model = , tenant =
  > engine:models()
  > engine:tenants()
  > engine:tiers()                  the second level
  > engine:policy()                 the live policy (see live)
  > engine:clear()                  empties L1 (what is in use stays)]]

TOPICS.store = [[
Prompts are tokens, or a text whose bytes are taken for tokens; only complete chunks count.

  > text = ('the quick brown fox '):rep(200)
  > engine:store(text, 4096)                    4096 bytes of zeros for each chunk
  > engine:lookup(text)                         how long a prefix is there
  > engine:lookup(text .. 'and more')
  > engine:load(text)[1]                        a view of the first chunk's bytes

engine:store(prompt, contents, { model = 'm', tenant = 't', world = 2 }) stores for others than model neap-console.]]

TOPICS.adapters = [[
  > engine:attach { type = 'mock', name = 'slow', max_size_gb = 0.01, mock_bandwidth_gb = 1 }
  > engine:tiers()[1].name
  > engine:detach 'slow'

engine:define(NAME, TEXT) attaches an adapter whose module is TEXT, or reloads it:

  > engine:define('shelf', "local neap = require 'neap'\n" .. "local kept = {}\n" .. [=[
      return { Shelf = neap.adapter {
        store = function(_, key, buffer) kept[key.text] = buffer:peek(0, 16) return true end,
        lookup = function(_, key) return kept[key.text] ~= nil end,
        load = function(_, key) return false end } }]=])]]

TOPICS.live = [[
The policy that decides here, and others beside it, on the same requests. In a guarded session built-ins only; files
with neap ctl policy.

  > engine:shadow 's3fifo'                      at work on names only; at most four
  > engine:shadows()[1].state                   and window: predicted against actual
  > engine:switch('arc', { trial = 0 })         no chunk is lost; trial = 600: put back if it does worse
  > engine:policy().policy
  > engine:unshadow 's3fifo'

Why is a chunk there, or not?

  > text = ('the quick brown fox '):rep(200)
  > engine:store(text, 4096)
  > engine:explain(text)[1].objects[1].why

A file is read anew each time: .edit ./mine.lua, policy.check './mine.lua', engine:switch './mine.lua'.]]

TOPICS.policies = [[
Policies are tried on recorded requests; not in guarded sessions. A file is read anew each time, so edit and compare:

  policy.names()
  policy.check './mine.lua'                      true, or what is wrong with it, with file and line
  policy.compare { trace = 'requests.jsonl', policies = 'lru,s3fifo,./mine.lua', sizes = '1%,5%,25%' }
  runs = policy.replay { trace = 'requests.jsonl', policies = { 'arc' }, order = 'head' }
  policy.plot(runs, 'block')]]

TOPICS.values = [[
Tables are shown sorted, cut where they are deep or long; buffers as their length and first bytes.

  > dump(engine:status(), { depth = 1 })
  > neap.buffer(100):fill(7)
  > print('as it is', 1, true)]]

TOPICS.limits = [[
Code at the prompt is interpreted, so that Ctrl-C stops any loop. With --trusted it is compiled, and a loop that never
awaits cannot be stopped: the third Ctrl-C then ends neap. C that does not come back (a pattern that backtracks for
ages) cannot be stopped in either.

  --memory BYTES   of Lua values, and again of buffers (default 1G)
  --time S         of one evaluation (default: no bound)

A guarded session (--guarded, and every session of a live server) has no files, sockets, processes, FFI or modules,
reads no payload but what such sessions stored, and cannot attach; of policies it runs built-ins only. That limits
accidents; it is no wall against hostile code.]]

local names = {}
for name in pairs(TOPICS) do
  names[#names + 1] = name
end
table.sort(names)

---@param topic? string
---@return string
return function(topic)
  local text = TOPICS[topic or 'start']
  if text then
    return text
  end
  return ("there is no topic '%s'; topics: %s"):format(tostring(topic), table.concat(names, ', '))
end
