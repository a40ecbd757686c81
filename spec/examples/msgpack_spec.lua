-- SPDX-License-Identifier: MIT

local ffi = require 'ffi'
local msgpack = require 'examples.worker.msgpack'
local replay = require 'spec.support.replay'

local function round(value) return msgpack.decode(msgpack.encode(value)) end

describe('the example client\'s MessagePack', function()
  it('gives back every integer at the edges of its widths', function()
    for _, exponent in ipairs { 5, 7, 8, 15, 16, 31, 32, 52 } do
      for _, value in ipairs { 2 ^ exponent - 1, 2 ^ exponent, -2 ^ exponent, -2 ^ exponent - 1 } do
        assert.equal(value, round(value))
      end
    end
    assert.equal(0, round(0))
  end)

  it('keeps the integers that a double cannot hold', function()
    for _, value in ipairs { 2ULL ^ 53 + 1, 0xffffffffffffffffULL, 0xf28777b8b7963c90ULL } do
      assert.is_true(ffi.istype('uint64_t', round(value)))
      assert.is_true(round(value) == value)
    end
    assert.is_true(round(-0x7fffffffffffffffLL) == -0x7fffffffffffffffLL)
  end)

  it('writes integers as short as they can be, as the recorded client does', function()
    assert.equal('\x7f', msgpack.encode(127))
    assert.equal('\xcc\x80', msgpack.encode(128))
    assert.equal('\xcd\x01\x00', msgpack.encode(256))
    assert.equal('\xcf\x00\x00\x00\x01\x00\x00\x00\x00', msgpack.encode(2 ^ 32))
  end)

  it('tells text from bytes, an empty map from an empty list, and null from nothing', function()
    local bytes = round { msgpack.bin 'ab', 'ab', msgpack.map {}, {}, msgpack.null, false, msgpack.float(0.5) }
    local kinds = {}
    for i, value in ipairs(bytes) do kinds[i] = msgpack.kind(value) end
    assert.same({ 'bin', 'string', 'map', 'array', 'null', 'boolean', 'float' }, kinds)
    assert.equal(0.5, bytes[7].number)
  end)

  it('reads every recorded frame, and refuses each of them cut short or with a byte too many', function()
    local frames = 0
    for _, line in ipairs(replay.load '02_cold_272') do
      for i = 2, #line.frames do
        frames = frames + 1
        local frame = line.frames[i]
        assert.equal(replay.show(msgpack.decode(frame)), replay.show(round(msgpack.decode(frame))))
        assert.has_error(function() msgpack.decode(frame .. '\0') end)
        for cut = 0, #frame - 1 do assert.is_false((pcall(msgpack.decode, frame:sub(1, cut)))) end
      end
    end
    assert.is_true(frames > 30)
  end)
end)

describe('the example client\'s payload pattern', function()
  local pattern = require 'examples.worker.pattern'

  it('is the same when it is computed again, and any changed byte is noticed', function()
    local length = 64 * 1024
    local block = ffi.new('uint8_t[?]', length)
    for start = 1, 50 do
      pattern.fill(block, length, pattern.seed(start, 3))
      assert.is_nil(pattern.differs(block, length, pattern.seed(start, 3)))
      local at = math.random(0, length - 1)
      block[at] = (block[at] + 1) % 256
      assert.equal(at - at % 8, pattern.differs(block, length, pattern.seed(start, 3)))
    end
  end)

  it('differs by prompt, chunk, worker and tenant', function()
    local seen = {}
    for _, seed in ipairs {
      pattern.seed(1, 0), pattern.seed(2, 0), pattern.seed(1, 1), pattern.seed(1, 0, 1), pattern.seed(1, 0, 0, 'a'),
    } do
      assert.is_nil(seen[tostring(seed)])
      seen[tostring(seed)] = true
    end
  end)
end)
