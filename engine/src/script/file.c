/* SPDX-License-Identifier: MIT
 *
 * script/file.c - see file.h. Every awaiting function returns to neap/await.lua: nil (or what to raise), then its
 * results; an operating error is nil, the errno name, and a sentence. */
#include "script/file.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "script/buffer.h"

#define TYPE "neap.file"
#define PARTS_MAX 1024

/* A descriptor, kept by the userdata and by each request that uses it. */
typedef struct descriptor {
  uv_file fd;
  uint32_t refs;
} descriptor;

typedef struct file {
  descriptor *descriptor; /* NULL: closed */
} file;

typedef struct request {
  uv_fs_t fs;
  neap__await await;
  const char *verb;
  uv_loop_t *loop;
  descriptor *descriptor;
  uv_buf_t *parts;  /* parts[at .. count) are still to be moved */
  neap__mem **mems; /* of owned buffers, one per part */
  uint32_t at, count;
  uint64_t offset, moved;
  ssize_t result;
  bool write;
} request;

static void descriptor_drop(descriptor *d) {
  if (!d || --d->refs > 0) return;
  if (d->fd >= 0) close(d->fd);
  free(d);
}

static request *request_of(neap__await *await) { return (request *)((char *)await - offsetof(request, await)); }

static void request_release(neap__await *await) {
  request *r = request_of(await);
  uv_fs_req_cleanup(&r->fs);
  descriptor_drop(r->descriptor);
  for (uint32_t i = 0; i < r->count; i++) neap__mem_drop(r->mems[i]);
  free(r->parts);
  free(r);
}

/* libuv takes a request back only while it waits for a worker thread; otherwise this has no effect. */
static void request_cancel(neap__await *await) { uv_cancel((uv_req_t *)&request_of(await)->fs); }

static int push_failed(lua_State *L, const request *r) { return neap__push_failure(L, r->verb, r->fs.path, r->result); }

static int push_true(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->result < 0) return push_failed(L, r);
  lua_pushboolean(L, 1);
  return 1;
}

static int push_moved(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->result < 0) return push_failed(L, r);
  lua_pushnumber(L, (double)r->moved);
  return 1;
}

static int push_file(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->result < 0) return push_failed(L, r);
  file *f = lua_newuserdata(L, sizeof(*f));
  f->descriptor = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  f->descriptor = r->descriptor;
  f->descriptor->refs++;
  return 1;
}

static const char *type_name(uv_dirent_type_t type) {
  switch (type) {
    case UV_DIRENT_FILE: return "file";
    case UV_DIRENT_DIR: return "directory";
    case UV_DIRENT_LINK: return "link";
    case UV_DIRENT_UNKNOWN: return "unknown";
    default: return "other";
  }
}

static int push_entries(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->result < 0) return push_failed(L, r);
  lua_createtable(L, (int)NEAP_MIN(r->result, 1 << 20), 0);
  uv_dirent_t entry;
  for (int i = 1; uv_fs_scandir_next(&r->fs, &entry) == 0; i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, entry.name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, type_name(entry.type));
    lua_setfield(L, -2, "type");
    lua_rawseti(L, -2, i);
  }
  return 1;
}

static int push_stat(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->result < 0) return push_failed(L, r);
  const uv_stat_t *s = &r->fs.statbuf;
  uint64_t kind = s->st_mode & S_IFMT;
  lua_createtable(L, 0, 3);
  lua_pushnumber(L, (double)s->st_size);
  lua_setfield(L, -2, "size");
  lua_pushnumber(L, (double)s->st_mtim.tv_sec + (double)s->st_mtim.tv_nsec / 1e9);
  lua_setfield(L, -2, "mtime");
  lua_pushstring(L, kind == S_IFREG ? "file" : kind == S_IFDIR ? "directory" : "other");
  lua_setfield(L, -2, "type");
  return 1;
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static void on_done(uv_fs_t *fs) {
  request *r = fs->data;
  r->result = fs->result;
  neap__coro_wake(&r->await);
}

static void on_opened(uv_fs_t *fs) {
  request *r = fs->data;
  if (fs->result >= 0) r->descriptor->fd = (uv_file)fs->result;
  on_done(fs);
}

static void on_moved(uv_fs_t *fs);

/* The kernel moves a little less than 2 GiB at a time. */
static int move(request *r) {
  uv_buf_t *parts = r->parts + r->at;
  unsigned count = r->count - r->at;
  return r->write ? uv_fs_write(r->loop, &r->fs, r->descriptor->fd, parts, count, (int64_t)r->offset, on_moved)
                  : uv_fs_read(r->loop, &r->fs, r->descriptor->fd, parts, count, (int64_t)r->offset, on_moved);
}

static void step_over(request *r, size_t n) {
  r->offset += n;
  r->moved += n;
  while (r->at < r->count && n >= r->parts[r->at].len) n -= r->parts[r->at++].len;
  if (r->at == r->count) return;
  r->parts[r->at].base += n;
  r->parts[r->at].len -= n;
}

static void on_moved(uv_fs_t *fs) {
  request *r = fs->data;
  ssize_t n = fs->result;
  uv_fs_req_cleanup(fs);
  if (n >= 0) step_over(r, (size_t)n);
  if (n > 0 && r->at < r->count && !neap__coro_canceled(r->await.coro)) {
    n = move(r);
    if (n == 0) return;
  }
  if (n == 0 && r->write && r->at < r->count) n = UV_EIO; /* else it would be repeated for ever */
  r->result = n;
  neap__coro_wake(&r->await);
}

/* A request for the awaiting function that runs; NULL with the failure pushed (*pushed values) if memory is short. */
static request *request_new(lua_State *L, const char *verb, int (*push)(lua_State *, neap__await *), int *pushed) {
  request *r = calloc(1, sizeof(*r));
  if (!r) {
    lua_pushnil(L);
    *pushed = 1 + neap__push_failure(L, verb, NULL, UV_ENOMEM);
    return NULL;
  }
  r->fs.data = r;
  r->verb = verb;
  r->loop = neap__loop_uv(neap__vm_of(L)->loop);
  r->await = (neap__await){.push = push, .cancel = request_cancel, .release = request_release};
  return r;
}

/* Ends an awaiting function: rc is what libuv said to the submission. */
static int request_wait(lua_State *L, neap__coro *coro, request *r, int rc) {
  if (rc >= 0) return neap__coro_wait(L, coro, &r->await);
  const char *verb = r->verb;
  request_release(&r->await);
  lua_pushnil(L);
  return 1 + neap__push_failure(L, verb, NULL, rc);
}

/* --- functions of neap.core ------------------------------------------------------------------------------------- */

/* core.file_open(path, mode, permissions, direct, synced): O_DIRECT, O_DSYNC */
static int l_open(lua_State *L) {
  static const char *const modes[] = {"r", "r+", "w", "w+", "wx", NULL};
  static const int flags[] = {O_RDONLY, O_RDWR, O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_CREAT | O_TRUNC,
                              O_WRONLY | O_CREAT | O_EXCL};
  const char *path = luaL_checkstring(L, 1);
  int flag = flags[luaL_checkoption(L, 2, "r", modes)] | O_CLOEXEC;
  int permissions = (int)luaL_optinteger(L, 3, 0644);
  if (lua_toboolean(L, 4)) flag |= O_DIRECT;
  if (lua_toboolean(L, 5)) flag |= O_DSYNC;
  neap__coro *coro;
  int pushed = neap__coro_enter(L, "neap.file.open", false, &coro);
  if (pushed) return pushed;
  request *r = request_new(L, "open", push_file, &pushed);
  if (!r) return pushed;
  r->descriptor = calloc(1, sizeof(*r->descriptor));
  if (!r->descriptor) return request_wait(L, coro, r, UV_ENOMEM);
  *r->descriptor = (descriptor){.fd = -1, .refs = 1};
  return request_wait(L, coro, r, uv_fs_open(r->loop, &r->fs, path, flag, permissions, on_opened));
}

static file *check_file(lua_State *L) {
  file *f = luaL_checkudata(L, 1, TYPE);
  if (!f->descriptor) luaL_error(L, "file is closed");
  return f;
}

static uint64_t check_offset(lua_State *L, int arg) {
  double at = luaL_checknumber(L, arg);
  luaL_argcheck(L, at >= 0 && at <= 9007199254740992.0, arg, "expected a file offset");
  return (uint64_t)at;
}

/* The request of a transfer of `count` parts; NULL without memory. */
static request *transfer_new(lua_State *L, file *f, bool write, uint64_t at, uint32_t count, int *pushed) {
  const char *verb = write ? "pwrite" : "pread";
  uv_buf_t *parts = calloc(count + 1, sizeof(*parts) + sizeof(neap__mem *));
  request *r = parts ? request_new(L, verb, push_moved, pushed) : NULL;
  if (!parts) {
    lua_pushnil(L);
    *pushed = 1 + neap__push_failure(L, verb, NULL, UV_ENOMEM);
  }
  if (!r) {
    free(parts);
    return NULL;
  }
  f->descriptor->refs++;
  r->descriptor = f->descriptor;
  r->parts = parts;
  r->mems = (neap__mem **)(parts + count + 1);
  r->offset = at;
  r->write = write;
  return r;
}

static void add_part(lua_State *L, neap__coro *coro, request *r, neap__buffer *buffer, void *data, size_t bytes) {
  r->mems[r->count] = neap__buffer_hold(L, buffer, coro);
  r->parts[r->count++] = (uv_buf_t){.base = data, .len = bytes};
}

/* file, buffer, file offset [, buffer offset [, length]] -> bytes moved; fewer than asked only at the end of file */
static int transfer(lua_State *L, bool write) {
  file *f = check_file(L);
  neap__buffer *buffer = neap__buffer_check(L, 2, !write);
  uint64_t at = check_offset(L, 3), offset, length;
  neap__buffer_range(L, 4, buffer->bytes, &offset, &length);
  neap__coro *coro;
  int pushed = neap__coro_enter(L, write ? "pwrite" : "pread", false, &coro);
  if (pushed) return pushed;
  neap__mem_drop(neap__buffer_hold(L, buffer, coro)); /* raises if it may not be used here */
  request *r = transfer_new(L, f, write, at, 1, &pushed);
  if (!r) return pushed;
  add_part(L, coro, r, buffer, buffer->data + offset, (size_t)length);
  return request_wait(L, coro, r, move(r));
}

/* file, { buffer or { buffer [, offset [, length]] }, ... }, file offset -> bytes moved, in the order of the parts */
static int transfer_parts(lua_State *L, bool write) {
  file *f = check_file(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  uint32_t count = (uint32_t)lua_objlen(L, 2);
  luaL_argcheck(L, count >= 1 && count <= PARTS_MAX, 2, "expected 1 to 1024 parts");
  uint64_t at = check_offset(L, 3);
  lua_settop(L, 3);
  neap__coro *coro;
  int pushed = neap__coro_enter(L, write ? "pwritev" : "preadv", false, &coro);
  if (pushed) return pushed;
  struct iovec part;
  for (uint32_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (int)i);
    neap__mem_drop(neap__buffer_hold(L, neap__buffer_part(L, 4, !write, &part), coro));
    lua_settop(L, 3);
  }
  request *r = transfer_new(L, f, write, at, count, &pushed);
  if (!r) return pushed;
  for (uint32_t i = 1; i <= count; i++) { /* as checked: raises no more */
    lua_rawgeti(L, 2, (int)i);
    neap__buffer *buffer = neap__buffer_part(L, 4, !write, &part);
    add_part(L, coro, r, buffer, part.iov_base, part.iov_len);
    lua_settop(L, 3);
  }
  return request_wait(L, coro, r, move(r));
}

static int l_preadv(lua_State *L) { return transfer_parts(L, false); }
static int l_pwritev(lua_State *L) { return transfer_parts(L, true); }
static int l_pread(lua_State *L) { return transfer(L, false); }
static int l_pwrite(lua_State *L) { return transfer(L, true); }

typedef enum file_verb { FSYNC, FDATASYNC, FTRUNCATE } file_verb;

static int with_file(lua_State *L, file_verb verb, const char *name) {
  file *f = check_file(L);
  uint64_t bytes = verb == FTRUNCATE ? check_offset(L, 2) : 0;
  neap__coro *coro;
  int pushed = neap__coro_enter(L, name, false, &coro);
  if (pushed) return pushed;
  request *r = request_new(L, name, push_true, &pushed);
  if (!r) return pushed;
  f->descriptor->refs++;
  r->descriptor = f->descriptor;
  int rc = UV_EINVAL;
  if (verb == FSYNC) rc = uv_fs_fsync(r->loop, &r->fs, r->descriptor->fd, on_done);
  if (verb == FDATASYNC) rc = uv_fs_fdatasync(r->loop, &r->fs, r->descriptor->fd, on_done);
  if (verb == FTRUNCATE) rc = uv_fs_ftruncate(r->loop, &r->fs, r->descriptor->fd, (int64_t)bytes, on_done);
  return request_wait(L, coro, r, rc);
}

static int l_fsync(lua_State *L) { return with_file(L, FSYNC, "fsync"); }
static int l_fdatasync(lua_State *L) { return with_file(L, FDATASYNC, "fdatasync"); }
static int l_truncate(lua_State *L) { return with_file(L, FTRUNCATE, "truncate"); }

/* With a request of another operation in flight, that request's end closes the file. */
static int l_close(lua_State *L) {
  file *f = check_file(L);
  neap__coro *coro;
  int pushed = neap__coro_enter(L, "close", true, &coro);
  if (pushed) return pushed;
  request *r = request_new(L, "close", push_true, &pushed);
  if (!r) return pushed;
  uv_file fd = -1;
  if (f->descriptor->refs == 1) {
    fd = f->descriptor->fd;
    f->descriptor->fd = -1;
  }
  descriptor_drop(f->descriptor);
  f->descriptor = NULL;
  r->await.cleanup = true;
  if (fd >= 0) return request_wait(L, coro, r, uv_fs_close(r->loop, &r->fs, fd, on_done));
  request_release(&r->await);
  lua_pushnil(L);
  lua_pushboolean(L, 1);
  return 2;
}

static int l_collect(lua_State *L) {
  file *f = luaL_checkudata(L, 1, TYPE);
  descriptor_drop(f->descriptor);
  f->descriptor = NULL;
  return 0;
}

typedef enum path_verb { RENAME, LINK, UNLINK, MKDIR, RMDIR, READDIR, STAT } path_verb;

static int submit_path(request *r, path_verb verb, const char *path, const char *to, int mode) {
  switch (verb) {
    case RENAME: return uv_fs_rename(r->loop, &r->fs, path, to, on_done);
    case LINK: return uv_fs_link(r->loop, &r->fs, path, to, on_done);
    case UNLINK: return uv_fs_unlink(r->loop, &r->fs, path, on_done);
    case MKDIR: return uv_fs_mkdir(r->loop, &r->fs, path, mode, on_done);
    case RMDIR: return uv_fs_rmdir(r->loop, &r->fs, path, on_done);
    case READDIR: return uv_fs_scandir(r->loop, &r->fs, path, 0, on_done);
    case STAT: return uv_fs_stat(r->loop, &r->fs, path, on_done);
  }
  return UV_EINVAL;
}

/* path [, second path or permissions] */
static int with_path(lua_State *L, path_verb verb, const char *name, int (*push)(lua_State *, neap__await *)) {
  const char *path = luaL_checkstring(L, 1);
  const char *to = verb == RENAME || verb == LINK ? luaL_checkstring(L, 2) : NULL;
  int mode = verb == MKDIR ? (int)luaL_optinteger(L, 2, 0755) : 0;
  bool cleanup = verb == UNLINK || verb == RMDIR;
  neap__coro *coro;
  int pushed = neap__coro_enter(L, name, cleanup, &coro);
  if (pushed) return pushed;
  request *r = request_new(L, name, push, &pushed);
  if (!r) return pushed;
  r->await.cleanup = cleanup;
  return request_wait(L, coro, r, submit_path(r, verb, path, to, mode));
}

static int l_rename(lua_State *L) { return with_path(L, RENAME, "rename", push_true); }
static int l_link(lua_State *L) { return with_path(L, LINK, "link", push_true); }
static int l_unlink(lua_State *L) { return with_path(L, UNLINK, "unlink", push_true); }
static int l_mkdir(lua_State *L) { return with_path(L, MKDIR, "mkdir", push_true); }
static int l_rmdir(lua_State *L) { return with_path(L, RMDIR, "rmdir", push_true); }
static int l_readdir(lua_State *L) { return with_path(L, READDIR, "readdir", push_entries); }
static int l_stat(lua_State *L) { return with_path(L, STAT, "stat", push_stat); }

void neap__file_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {{"file_open", l_open},
                                       {"file_pread", l_pread},
                                       {"file_pwrite", l_pwrite},
                                       {"file_fsync", l_fsync},
                                       {"file_close", l_close},
                                       {"file_rename", l_rename},
                                       {"file_unlink", l_unlink},
                                       {"file_mkdir", l_mkdir},
                                       {"file_rmdir", l_rmdir},
                                       {"file_stat", l_stat},
                                       {"file_readdir", l_readdir},
                                       {"file_preadv", l_preadv},
                                       {"file_pwritev", l_pwritev},
                                       {"file_fdatasync", l_fdatasync},
                                       {"file_truncate", l_truncate},
                                       {"file_link", l_link},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  /* neap/file.lua puts the methods there */
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__index");
  lua_setfield(L, -3, "file_methods");
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
