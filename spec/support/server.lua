-- SPDX-License-Identifier: MIT
--
-- A cache server as a child process: started on free ports, stopped, killed, waited for, always within bounds. The
-- child dies with the spec that started it. NEAP_BIN names the program; LMCache's own `lmcache` takes the same flags.

local ffi = require 'ffi'
local client = require 'examples.worker.client'

ffi.cdef [[
typedef int pid_t;
pid_t fork(void);
pid_t getpid(void);
int execv(const char *path, char *const argv[]);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int kill(pid_t pid, int signal);
pid_t waitpid(pid_t pid, int *status, int options);
int open(const char *path, int flags, ...);
int dup2(int from, int to);
int close(int fd);
void _exit(int code);
int poll(void *fds, unsigned long count, int timeout_ms);
struct neap_sockaddr { uint16_t family, port; uint32_t address; char zero[8]; };
int socket(int domain, int type, int protocol);
int bind(int fd, const struct neap_sockaddr *address, unsigned bytes);
int getsockname(int fd, struct neap_sockaddr *address, unsigned *bytes);
int connect(int fd, const struct neap_sockaddr *address, unsigned bytes);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
uint16_t ntohs(uint16_t value);
uint16_t htons(uint16_t value);
struct neap_timespec { long s; long ns; };
int clock_gettime(int clock, struct neap_timespec *out);
char *mkdtemp(char *template);
]]

local C = ffi.C
local SIGKILL, SIGTERM, WNOHANG, PDEATHSIG = 9, 15, 1, 1
local READY_S, STOP_S = 30, 30

local M = { SIGKILL = SIGKILL, SIGTERM = SIGTERM }

M.bin = os.getenv 'NEAP_BIN' or 'build/bin/neap'

---Monotonic seconds.
function M.now()
  local t = ffi.new 'struct neap_timespec'
  C.clock_gettime(1, t)
  return tonumber(t.s) + tonumber(t.ns) / 1e9
end

---Lets other processes run; for polling within a bound, never to be right.
function M.pause(ms) C.poll(nil, 0, ms) end

---Polls until check returns something true; nil when it has not within the bound.
function M.eventually(seconds, check)
  local deadline = M.now() + seconds
  while true do
    local result = check()
    if result then return result end
    if M.now() > deadline then return nil end
    M.pause(5)
  end
end

---A port that was free a moment ago.
---@return integer
function M.free_port()
  local fd = C.socket(2, 1, 0)
  local address = ffi.new('struct neap_sockaddr', { family = 2, address = 0x0100007f })
  local bytes = ffi.new('unsigned[1]', ffi.sizeof(address))
  assert(C.bind(fd, address, bytes[0]) == 0 and C.getsockname(fd, address, bytes) == 0, 'no free port')
  C.close(fd)
  return C.ntohs(address.port)
end

---Whether something listens on a port of loopback.
---@param port integer
---@return boolean
function M.listening(port)
  local fd = C.socket(2, 1, 0)
  local address = ffi.new('struct neap_sockaddr', { family = 2, port = C.htons(port), address = 0x0100007f })
  local connected = C.connect(fd, address, ffi.sizeof(address)) == 0
  C.close(fd)
  return connected
end

---A private directory.
function M.directory()
  local template = (os.getenv 'TMPDIR' or '/tmp') .. '/neap-spec-XXXXXX'
  local buffer = ffi.new('char[?]', #template + 1, template)
  assert(C.mkdtemp(buffer) ~= nil, 'mkdtemp failed')
  return ffi.string(buffer)
end

function M.remove(directory)
  assert(directory:match '/neap%-spec%-%w+$', 'not one of our directories')
  os.execute("rm -rf '" .. directory .. "'")
end

local names = 0

---A name for shared memory that nobody else uses.
function M.shm_name()
  names = names + 1
  return ('spec-%d-%d'):format(C.getpid(), names)
end

---Files in a directory whose names contain a plain text.
function M.files(directory, text)
  local found = {}
  local pipe = assert(io.popen("ls -A '" .. directory .. "' 2>/dev/null"))
  for name in pipe:lines() do
    if name:find(text, 1, true) then found[#found + 1] = name end
  end
  pipe:close()
  return found
end

function M.read(path)
  local file = assert(io.open(path, 'rb'))
  local text = file:read '*a'
  file:close()
  return text
end

---Starts a program with its output in a file.
---@param argv string[]
---@param log string path
---@param env? table<string, string>
---@return integer pid
function M.spawn(argv, log, env)
  local array = ffi.new('const char *[?]', #argv + 1)
  for i, argument in ipairs(argv) do array[i - 1] = argument end
  local pid = C.fork()
  assert(pid >= 0, 'fork failed')
  if pid > 0 then return pid end
  C.prctl(PDEATHSIG, SIGKILL, 0, 0, 0)
  C.unsetenv 'LD_PRELOAD' -- a sanitizer that this process needs is not for others
  for name, value in pairs(env or {}) do C.setenv(name, value, 1) end
  local fd = C.open(log, 0x441, ffi.cast('int', 0x1a4)) -- O_WRONLY|O_CREAT|O_APPEND, 0644
  C.dup2(fd, 1)
  C.dup2(fd, 2)
  C.execv(argv[1], ffi.cast('char *const *', array))
  C._exit(127)
end

---Ends a process of spawn's with kill -9 and waits for its end.
---@param pid integer
function M.kill(pid)
  C.kill(pid, SIGKILL)
  M.reap(pid)
end

---Sends SIGKILL to a process `ms` milliseconds from now.
---@return integer killer # a process to be waited for
function M.kill_after(pid, ms)
  local killer = C.fork()
  assert(killer >= 0, 'fork failed')
  if killer > 0 then return killer end
  C.poll(nil, 0, ms)
  C.kill(pid, SIGKILL)
  C._exit(0)
end

---Waits for the end of a process.
function M.reap(pid) C.waitpid(pid, nil, 0) end

---@class Server
---@field pid integer
---@field port integer
---@field http_port integer
---@field endpoint string
---@field log string path of everything it printed
---@field shm string
local Server = {}
Server.__index = Server

---@class ServerOptions
---@field directory? string for the log, a fresh one by default; discard removes it
---@field shm? string name of the pool, a fresh one by default
---@field l1_size_gb? number
---@field l2? string[] adapters, as JSON
---@field flags? string[] further ones
---@field env? table<string, string>

---Starts a server; it need not come up.
---@param options ServerOptions
---@return Server
function M.launch(options)
  local self = setmetatable({ options = options, shm = options.shm or M.shm_name() }, Server)
  options.directory = options.directory or M.directory()
  self.port, self.http_port = M.free_port(), M.free_port()
  self.endpoint = 'tcp://127.0.0.1:' .. self.port
  self.log = options.directory .. '/server.log'
  self:exec()
  return self
end

---Starts a server and waits until it answers.
---@param options ServerOptions
---@return Server
function M.start(options)
  local self = M.launch(options)
  self:await()
  return self
end

function Server:exec()
  local options = self.options
  local argv = {
    M.bin, 'server', '--host', '127.0.0.1', '--port', tostring(self.port),
    '--http-host', '127.0.0.1', '--http-port', tostring(self.http_port),
    '--chunk-size', '256', '--l1-size-gb', tostring(options.l1_size_gb or 0.125), '--eviction-policy', 'LRU',
    '--supported-transfer-mode', 'engine_driven', '--shm-name', self.shm, '--no-l1-use-lazy',
  }
  for _, json in ipairs(options.l2 or {}) do
    argv[#argv + 1] = '--l2-adapter'
    argv[#argv + 1] = json
  end
  for _, flag in ipairs(options.flags or {}) do argv[#argv + 1] = flag end
  self.pid, self.status = M.spawn(argv, self.log, options.env), nil
end

---@return boolean
function Server:alive()
  if self.status then return false end
  local status = ffi.new 'int[1]'
  if C.waitpid(self.pid, status, WNOHANG) ~= self.pid then return true end
  local word = status[0]
  local signal = word % 128
  self.status = signal == 0 and math.floor(word / 256) % 256 or -signal
  return false
end

---Waits for the end of the process.
---@return integer status # exit code, or minus the signal
function Server:wait()
  if not M.eventually(STOP_S, function() return not self:alive() end) then
    self:kill()
    error('the server did not end within ' .. STOP_S .. ' s:\n' .. self:output())
  end
  return self.status
end

---Waits until the server answers a request.
function Server:await()
  local probe = client.connect(self.endpoint)
  local uid = probe:submit 'get_chunk_size'
  local ready = M.eventually(READY_S, function() return not self:alive() or probe:wait(uid, 20) end)
  probe:close()
  if not ready or self.status then
    self:kill()
    local said = self:output()
    self:discard()
    error(('the server did not come up (status %s):\n%s'):format(tostring(self.status), said), 3)
  end
end

function Server:signal(number) C.kill(self.pid, number) end

---kill -9, waited for.
function Server:kill()
  if self:alive() then self:signal(SIGKILL) end
  return self:wait()
end

---kill -9, and nothing of it is left: neither shared memory nor the directory.
function Server:discard()
  self:kill()
  for _, name in ipairs(self:segments()) do os.remove('/dev/shm/' .. name) end
  M.remove(self.options.directory)
end

---Sends SIGKILL `ms` milliseconds from now, while the caller goes on.
function Server:kill_after(ms) self.killer = M.kill_after(self.pid, ms) end

---SIGTERM, waited for.
---@return integer status
function Server:stop()
  if self:alive() then self:signal(SIGTERM) end
  return self:wait()
end

---The same command again, after the process has ended.
function Server:restart()
  assert(self.status, 'still running')
  if self.killer then
    M.reap(self.killer)
    self.killer = nil
  end
  self:exec()
  self:await()
end

function Server:output() return M.read(self.log) end

---What this server's name left in /dev/shm.
function Server:segments() return M.files('/dev/shm', self.shm) end

---@param options? { timeout_ms?: integer }
---@return Client
function Server:connect(options) return client.connect(self.endpoint, options) end

return M
