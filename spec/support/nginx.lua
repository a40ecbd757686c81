-- SPDX-License-Identifier: MIT
--
-- An nginx of one's own, on a unix socket in a fresh directory, that keeps what is PUT below /kv/.

local driver = require 'spec.support.adapter_driver'
local process = require 'spec.support.process'

local CONFIG = [[
daemon off;
master_process off;
user root;
pid %DIR%/pid;
error_log %DIR%/error.log warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %DIR%/body;
  proxy_temp_path %DIR%/proxy;
  fastcgi_temp_path %DIR%/fastcgi;
  uwsgi_temp_path %DIR%/uwsgi;
  scgi_temp_path %DIR%/scgi;
  server {
    listen unix:%DIR%/socket;
    client_max_body_size 64m;
    root %DIR%/root;
    location /kv/ { dav_methods PUT DELETE; autoindex on; autoindex_format json; }
    location /small/ { dav_methods PUT DELETE; client_max_body_size 4; }
    location /closed/ { deny all; }
    location /full/ { if ($request_method = PUT) { return 507; } }
    location /broken/ { return 500; }
    location /there/ { if ($request_method = PUT) { return 412; } }
  }
}
]]

---@class spec.Nginx
local Nginx = {}
Nginx.__index = Nginx

local M = {}

--- Starts one.
function M.start()
  local template = driver.directory()
  local nginx = setmetatable({ dir = template, socket = template .. '/socket' }, Nginx)
  assert(0 == os.execute(('mkdir -p %s/root/kv %s/root/small'):format(template, template)))
  local file = assert(io.open(template .. '/conf', 'w'))
  file:write((CONFIG:gsub('%%DIR%%', template)))
  file:close()
  nginx:resume()
  return nginx
end

--- Ends the server; what it keeps stays.
function Nginx:pause()
  self.process:close()
end

function Nginx:resume()
  os.remove(self.socket)
  self.process = process.start(('nginx -e %s/error.log -p %s -c %s/conf'):format(self.dir, self.dir, self.dir),
    function()
      return os.execute(('env -u LD_PRELOAD curl -s -o /dev/null --unix-socket %s http://x/'):format(self.socket)) == 0
    end)
end

--- What --l2-adapter is given: the parameters for a path below the server, and further JSON members.
function Nginx:config(path, more)
  return ('{"type": "http", "base_url": "http://nginx/%s/", "unix_socket": "%s"%s}'):format(path or 'kv', self.socket,
    more and ', ' .. more or '')
end

--- Ends the server and removes all that it kept.
function Nginx:discard()
  self:pause()
  assert(self.dir:match '^/tmp/neap%-spec%-%w+$')
  os.execute('rm -rf ' .. self.dir)
end

return M
