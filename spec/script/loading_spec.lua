-- SPDX-License-Identifier: MIT
--
-- From a file to an open adapter, and what is refused on the way.

local driver = require 'spec.support.adapter_driver'

local HOOKS = "store = function() return true end, lookup = function() return false end, load = function() end, "

describe('a Lua module', function()
  local dir, write, remove

  before_each(function()
    dir, write, remove = driver.directory()
  end)

  after_each(function()
    remove()
  end)

  local function module(body)
    return write('store.lua', "local neap = require 'neap'\n" .. body)
  end

  local function store(more, fields)
    return module(('return { Store = neap.adapter { %s %s }, %s }'):format(HOOKS, fields or '', more or ''))
  end

  local function refused(path, params, config_class_name)
    local adapter, message = driver.open_lua(path, 'Store', params, config_class_name)
    assert.is_nil(adapter)
    return message
  end

  local function with(adapter, message, action)
    assert(adapter, message)
    local ok, failure = pcall(action, adapter)
    adapter:close()
    assert(ok, failure)
  end

  local function open(path, params, config_class_name, action)
    local adapter, message = driver.open_lua(path, 'Store', params, config_class_name)
    with(adapter, message, action or function() end)
  end

  describe('is refused', function()
    it('when it does not exist', function()
      assert.matches('NEAP_ESCRIPT: cannot open .*/none.lua', refused(dir .. '/none.lua'))
    end)

    it('when the Lua side of the runtime is not where it should be', function()
      local lua_dir = driver.lua_dir
      driver.lua_dir = dir
      local message = refused(store())
      driver.lua_dir = lua_dir
      assert.matches('NEAP_ENOENT: Store: the Lua side of the runtime is missing: cannot read', message)
    end)

    it('when it does not compile, with file and line', function()
      assert.matches("store.lua:2: '=' expected near", refused(module 'local M = {} return +'):gsub('unexpected symbol',
        "'=' expected"))
      assert.matches('NEAP_ESCRIPT: .*/store.lua:3:', refused(module 'local x = 1\nlocal y = = 2'))
    end)

    it('when it raises, with file and line', function()
      assert.matches('/store.lua:2: attempt to index global', refused(module 'nothing.x = 1'))
      assert.matches('error object is a table', refused(module 'error {}'))
    end)

    it('when it is bytecode', function()
      assert.matches('wrong mode', refused(write('store.lua', string.dump(loadstring 'return {}'))))
    end)

    it('when it does not return a table', function()
      assert.matches('store.lua: the module returned a nil, expected a table of adapters', refused(module ''))
    end)

    it('when the class is not there, naming those that are', function()
      local path = module(('return { B = neap.adapter { %s }, A = neap.adapter { %s }, c = {} }'):format(HOOKS, HOOKS))
      assert.matches("there is no class 'Store'; the module's adapters: A, B", refused(path))
      assert.matches("the module's adapters: none", refused(module 'return {}'))
    end)

    it('when the class was not made by neap.adapter', function()
      assert.matches("'Store' is a table, expected what neap.adapter", refused(module 'return { Store = {} }'))
    end)

    it('when a hook is missing, is no function, or is unknown', function()
      local function of(fields)
        return refused(module(('return { Store = neap.adapter { %s } }'):format(fields)))
      end
      assert.matches("store.lua:2: neap.adapter: the hook 'load' is missing",
        of 'store = print, lookup = print')
      assert.matches("'store' is a number, expected a function", of 'store = 1, lookup = print, load = print')
      assert.matches("'lost' is not a part of an adapter; its hooks are open, store", of(HOOKS .. 'lost = 1'))
      assert.matches("'version' is a number, expected a string", of(HOOKS .. 'version = 1'))
      assert.matches('got a number, expected a table', refused(module 'neap.adapter(5)'))
    end)

    it('when it awaits while it is loaded', function()
      assert.matches('neap.sleep: can only be called from a hook', refused(module 'neap.sleep(0)'))
      assert.matches('neap.file.open: can only be called from a hook', refused(module "neap.file.open('/dev/null')"))
    end)

    it('when its schema is wrong, naming the place', function()
      for schema, expected in pairs {
        ['5'] = "'StoreConfig' is a number, expected a table",
        ['{ size = 5 }'] = "'StoreConfig'.size is a number, expected a table",
        ["{ size = { type = 'float' } }"] = "'StoreConfig'.size.type is 'float', expected number, integer",
        ['{ size = {} }'] = "'StoreConfig'.size.type is 'nil', expected",
        ["{ size = { type = 'number', min = '1' } }"] = "'StoreConfig'.size.min is a string, expected a number",
        ["{ size = { type = 'number', minimum = 1 } }"] = "'StoreConfig'.size.minimum is unknown; expected type",
        ["{ { type = 'number' } }"] = "'StoreConfig' has a number as a parameter's name",
        ["{ size = { type = 'number', default = print } }"] = 'a function has no JSON form',
        ["{ size = { type = 'number', default = 0 / 0 } }"] = 'NaN and infinity have no JSON form',
      } do
        assert.matches(expected, refused(store('StoreConfig = ' .. schema)), 1, true)
      end
    end)

    it('when open refuses', function()
      assert.matches('NEAP_EPERM: Store: open failed: EACCES: not yours',
        refused(store(nil, "open = function() return nil, 'EACCES', 'not yours' end")))
      assert.matches('NEAP_EIO: Store: open failed: EIO: no message',
        refused(store(nil, 'open = function() return false end')))
    end)

    it('when open raises', function()
      assert.matches('NEAP_ESCRIPT: Store: open failed: .*/store.lua:2: no luck$',
        refused(store(nil, "open = function() neap.sleep(0) error 'no luck' end")))
    end)
  end)

  describe('is given', function()
    local ECHO = [[
      open = function(self, params) neap.sleep(0) self.params = params end,
      status = function(self) return { params = self.params } end]]

    local function params_of(path, params, config_class_name)
      local status
      open(path, params, config_class_name, function(adapter)
        status = adapter:status()
      end)
      return status:match '"params":(.*),"is_healthy"'
    end

    it('any parameters without a schema', function()
      assert.equals('{"a":[1,"x",{"b":true}]}', params_of(store(nil, ECHO), '{"a": [1, "x", {"b": true}], "c": null}'))
    end)

    it('checked parameters and defaults by the schema that has its name', function()
      local path = store("StoreConfig = { size = { type = 'integer', default = 7, doc = 'd' } }", ECHO)
      assert.equals('{"size":7}', params_of(path, '{}'))
      assert.equals('{"size":8}', params_of(path, '{"size": 8}'))
      assert.matches('NEAP_EINVAL.*adapter_params.*sise', refused(path, '{"sise": 8}'))
    end)

    it('the schema that the configuration or the class names', function()
      local schemas = "Other = { other = { type = 'integer', default = 1 } }"
      assert.equals('{"other":1}', params_of(store(schemas, ECHO), '{}', 'Other'))
      assert.equals('{"other":1}', params_of(store(schemas, ECHO .. ", config_class_name = 'Other'"), '{}'))
      assert.matches("there is no 'Missing' for config_class_name", refused(store(schemas), '{}', 'Missing'))
    end)
  end)

  describe('finds modules', function()
    it('beside itself', function()
      write('part.lua', 'return 42')
      open(module(("assert(require 'part' == 42) return { Store = neap.adapter { %s } }"):format(HOOKS)))
    end)

    it('nowhere else: neither in LUA_PATH nor among shared objects', function()
      open(module(([[
        assert(not package.path:find '/usr' and package.cpath == '' and package.loadlib == nil)
        assert(not pcall(require, 'busted') and not pcall(require, 'lfs'))
        return { Store = neap.adapter { %s } }]]):format(HOOKS)))
    end)
  end)

  it('has the hooks that it defines, and no others', function()
    open(store(), '{}', nil, function(adapter)
      assert.is_false(adapter:can 'delete')
      assert.is_false(adapter:can 'list')
    end)
    open(store(nil, 'delete = function() return true end, list = function() end'), '{}', nil, function(adapter)
      assert.is_true(adapter:can 'delete')
      assert.equals('NEAP_OK', adapter:delete(driver.key(1)))
      local entries, result = adapter:list()
      assert.same({ {}, 'NEAP_OK' }, { entries, result })
    end)
  end)

  it('may be opened twice at once: each adapter has a VM of its own', function()
    local path = module(([[
      local ffi = require 'ffi'
      ffi.cdef 'struct declared_once { int x; };'
      count = 0
      return { Store = neap.adapter { %s status = function() count = count + 1 return { count = count } end } }
      ]]):format(HOOKS))
    local a, b = assert(driver.open_lua(path, 'Store')), assert(driver.open_lua(path, 'Store'))
    assert.matches('"count":1', a:status(), 1, true)
    assert.matches('"count":2', a:status(), 1, true)
    assert.matches('"count":1', b:status(), 1, true)
    a:close()
    b:close()
  end)

  it('is read again each time it is opened', function()
    local function answer()
      local size
      open(dir .. '/store.lua', '{}', nil, function(adapter)
        size = select(2, adapter:lookup(driver.key(1)))
      end)
      return size
    end
    local body = 'return { Store = neap.adapter { store = print, load = print, lookup = function() return %d end } }'
    module(body:format(1))
    assert.equals(1, answer())
    module(body:format(2))
    assert.equals(2, answer())
  end)

  it('runs its close hook, which may await and may fail', function()
    local flag = dir .. '/closed'
    open(store(nil, ([[close = function()
      neap.sleep(0)
      neap.file.open(%q, 'w'):close()
      error 'late'
    end]]):format(flag)))
    assert.is_true(os.remove(flag))
  end)

  it('prints to the log and cannot end the program', function()
    open(store(nil, "open = function() print('a', 1, nil) print(select(2, pcall(os.exit))) end"), '{}', nil,
      function(adapter)
        assert.is_true(adapter:logged 'a\t1\tnil')
        assert.is_true(adapter:logged 'a script cannot end the program')
      end)
  end)

  describe('that lists', function()
    it('reports keys, sizes and times until the engine has enough', function()
      local path = store(nil, [[
        list = function(self, emit)
          for n = 1, 3 do
            neap.sleep(0)
            local key = ('demo/tiny@01000100@0@%064x'):format(n)
            if not emit(n == 2 and neap.key(key) or key, n * 10, n * 100) then return true end
          end
        end]])
      open(path, '{}', nil, function(adapter)
        local entries, result = adapter:list()
        assert.equals('NEAP_OK', result)
        assert.same({ { key = driver.key(1), bytes = 10, used = 100 }, { key = driver.key(2), bytes = 20, used = 200 },
          { key = driver.key(3), bytes = 30, used = 300 } }, entries)
        assert.equals(2, #adapter:list(2))
      end)
    end)

    it('is told what is not an entry, and cannot report later', function()
      local path = store(nil, [[
        list = function(self, emit)
          self.emit = emit
          report = { select(2, pcall(emit, 'x.data', 1)), select(2, pcall(emit, 5, 1)), select(2, pcall(emit)) }
          return nil, 'EIO', 'cut short'
        end,
        status = function(self)
          report[4] = select(2, pcall(self.emit, 'x', 1))
          return { report = report }
        end]])
      open(path, '{}', nil, function(adapter)
        local entries, result = adapter:list()
        assert.same({ {}, 'NEAP_EIO' }, { entries, result })
        local status = adapter:status()
        assert.matches("'x.data' is not the text of a key", status, 1, true)
        assert.matches('emit is no longer valid', status, 1, true)
      end)
    end)
  end)

  describe('that has a status', function()
    local function status_of(body)
      local json, logged
      open(store(nil, 'status = function() ' .. body .. ' end'), '{}', nil, function(adapter)
        json = adapter:status()
        logged = function(text) return adapter:logged(text) end
        assert.is_true(json ~= nil)
        if body:find 'loop' or body:find 'print' then
          assert.is_true(logged 'JSON form' or logged 'deeper than')
        end
      end)
      return json
    end

    it('adds its health', function()
      assert.equals('{"x":1,"is_healthy":true}', status_of 'return { x = 1 }')
      assert.equals('{"is_healthy":false}', status_of 'return { is_healthy = false }')
    end)

    it('that cannot be shown is left out', function()
      assert.equals('{"is_healthy":true}', status_of 'return { f = print }')
      assert.equals('{"is_healthy":true}', status_of 'local loop = {} loop.loop = loop return loop')
      assert.equals('{"is_healthy":true}', status_of 'error {}')
      assert.equals('{"is_healthy":true}', status_of 'return 5')
    end)
  end)
end)
