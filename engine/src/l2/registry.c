/* SPDX-License-Identifier: MIT
 *
 * l2/registry.c - the built-in types, the loaders, and the search for plugin modules.
 *
 * Both tables are filled at load time and before the first engine is opened, on one thread; after that they are only
 * read. What a module contains is the loaders' business (native.c, the script layer). */
#include "l2/registry.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "l2/native.h"

#define TYPES_MAX 64
#define LOADERS_MAX 8
#define PATH_BYTES 4096
#define NAMES_MAX 256

static const neap_adapter *types[TYPES_MAX];
static size_t types_count;
static const neap__loader *loaders[LOADERS_MAX] = {&neap__native_loader};
static size_t loaders_count = 1;

/* The two type names that mean "look for a module". */
static const char *const module_types[] = {"plugin", "native_plugin"};

int neap_adapter_register(const neap_adapter *adapter) {
  neap_error err = {""};
  int rc = neap__native_check(adapter, "built-in", &err);
  if (rc) {
    NEAP_LOG_ERROR("%s", err.text);
    return rc;
  }
  for (size_t i = 0; i < NEAP_ARRAY_LEN(module_types); i++) {
    if (strcmp(module_types[i], adapter->name) == 0) return NEAP_EEXIST;
  }
  if (neap__registry_find(adapter->name)) return NEAP_EEXIST;
  if (types_count == TYPES_MAX) return NEAP_ELIMIT;
  types[types_count++] = adapter;
  return 0;
}

const neap_adapter *neap__registry_find(const char *type) {
  for (size_t i = 0; i < types_count; i++) {
    if (strcmp(types[i]->name, type) == 0) return types[i];
  }
  return NULL;
}

/* Names for a message; they live in `text`. */
typedef struct name_list {
  const char *names[NAMES_MAX];
  size_t count, used;
  char text[4096];
} name_list;

static void add_name(name_list *list, const char *name, size_t length) {
  if (list->count == NAMES_MAX || list->used + length + 1 > sizeof list->text) return;
  char *copy = list->text + list->used;
  memcpy(copy, name, length);
  copy[length] = 0;
  list->names[list->count++] = copy;
  list->used += length + 1;
}

/* Modules NAME.lua and folders NAME of one plugin directory. */
static void add_modules(name_list *list, const char *dir) {
  DIR *stream = opendir(dir);
  if (!stream) return;
  for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
    const char *dot = strchr(entry->d_name, '.');
    if (!dot || (dot > entry->d_name && strcmp(dot, ".lua") == 0))
      add_name(list, entry->d_name, strcspn(entry->d_name, "."));
  }
  closedir(stream);
}

/* For-each over a colon-separated list; an empty entry is skipped: it never means the working directory. */
static void add_all_modules(name_list *list, const char *plugin_dirs) {
  char *dirs = strdup(plugin_dirs ? plugin_dirs : ""), *rest = dirs, *dir;
  while (dirs && (dir = strsep(&rest, ":")))
    if (*dir) add_modules(list, dir);
  free(dirs);
}

int neap__registry_unknown(const char *type, const char *plugin_dirs, neap_error *err) {
  name_list list = {.count = 0};
  char known[256] = "";
  for (size_t i = 0; i < types_count; i++) add_name(&list, types[i]->name, strlen(types[i]->name));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(module_types); i++) add_name(&list, module_types[i], strlen(module_types[i]));
  for (size_t i = 0, used = 0; i < list.count && used < sizeof known; i++) {
    used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", list.names[i]);
  }
  add_all_modules(&list, plugin_dirs);
  const char *nearest = neap__nearest(type, list.names, list.count);
  return neap__fail(err, NEAP_EINVAL, "unknown L2 adapter type '%.64s'; %s%s%s", type,
                    nearest ? "did you mean '" : "expected one of: ", nearest ? nearest : known, nearest ? "'?" : "");
}

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n > m && strcmp(text + n - m, end) == 0;
}

void neap__registry_add_loader(const neap__loader *loader) {
  for (size_t i = 0; i < loaders_count; i++) {
    if (loaders[i] == loader) return; /* every engine of a process may add its own */
  }
  NEAP_ASSERT(loaders_count < LOADERS_MAX);
  loaders[loaders_count++] = loader;
}

const neap__loader *neap__registry_loader(const char *path, neap_error *err) {
  for (size_t i = 0; i < loaders_count; i++) {
    if (ends_with(path, loaders[i]->suffix)) return loaders[i];
  }
  neap__fail(err, NEAP_ENOTSUP, "%s: no loader for modules of this kind in this build", path);
  return NULL;
}

/* --- finding a module ----------------------------------------------------------------------------------------- */

typedef struct search {
  const char *module_path, *plugin_dirs;
  char name[PATH_BYTES]; /* module_path with '/' for '.', unless it has a suffix or a '/' already */
  bool exact;            /* it has a suffix: nothing is to be appended */
  char tried[256];       /* for the message */
} search;

static void note_tried(search *s, const char *dir, const char *file) {
  size_t used = strlen(s->tried);
  snprintf(s->tried + used, sizeof s->tried - used, "%s%s%s%s", used ? ", " : "", dir, *dir ? "/" : "", file);
}

/* The file's name under one of the five patterns; false if it does not fit. */
static bool candidate(const search *s, int pattern, char *file, size_t cap) {
  const char *slash = strrchr(s->name, '/'), *base = slash ? slash + 1 : s->name;
  int dir_bytes = (int)(base - s->name);
  int n = 0;
  switch (pattern) {
    case 0: n = snprintf(file, cap, "%s.lua", s->name); break;
    case 1: n = snprintf(file, cap, "%s/init.lua", s->name); break;
    case 2: n = snprintf(file, cap, "%s.so", s->name); break;
    case 3: n = snprintf(file, cap, "%.*slib%s.so", dir_bytes, s->name, base); break;
    case 4: n = snprintf(file, cap, "%s/%s.so", s->name, base); break;
    default: return false;
  }
  return (size_t)n < cap;
}

static bool is_below(const char *path, const char *dir) {
  size_t n = strlen(dir);
  return strncmp(path, dir, n) == 0 && (path[n] == '/' || (n > 0 && dir[n - 1] == '/'));
}

/* Whoever can write the file, or put something else in the place of it or of a directory on the way to it, decides what
 * this process runs. */
static int check_file(const char *real, const char *real_dir, neap_error *err) {
  char on_way[PATH_BYTES];
  struct stat st;
  if (stat(real, &st) != 0) return neap__fail(err, NEAP_ENOENT, "%s: %m", real);
  if (!S_ISREG(st.st_mode)) return neap__fail(err, NEAP_EPERM, "%s is not a regular file", real);
  if (st.st_mode & S_IWOTH) return neap__fail(err, NEAP_EPERM, "%s is world-writable; chmod o-w it", real);
  snprintf(on_way, sizeof on_way, "%s", real);
  do {
    *strrchr(on_way, '/') = '\0';
    const char *dir = *on_way ? on_way : "/";
    if (stat(dir, &st) != 0) return neap__fail(err, NEAP_ENOENT, "%s: %m", dir);
    if (st.st_mode & S_IWOTH) return neap__fail(err, NEAP_EPERM, "the directory %s is world-writable", dir);
  } while (is_below(on_way, real_dir));
  return 0;
}

/* Looks for one pattern in one directory. 0 found, NEAP_ENOENT go on looking, else refused. */
static int try_file(search *s, const char *dir, const char *file, char *path, size_t cap, neap_error *err) {
  char joined[PATH_BYTES], real_dir[PATH_BYTES], real[PATH_BYTES];
  bool absolute = file[0] == '/';
  int n = snprintf(joined, sizeof joined, "%s%s%s", absolute ? "" : dir, absolute ? "" : "/", file);
  if ((size_t)n >= sizeof joined || !realpath(dir, real_dir) || !realpath(joined, real)) {
    note_tried(s, absolute ? "" : dir, file);
    return NEAP_ENOENT;
  }
  if (!is_below(real, real_dir)) {
    if (absolute) return NEAP_ENOENT; /* perhaps below another directory */
    return neap__fail(err, NEAP_EPERM, "%s leads out of the plugin directory %s", joined, dir);
  }
  int rc = check_file(real, real_dir, err);
  if (rc) return rc;
  if (strlen(real) >= cap) return neap__fail(err, NEAP_EINVAL, "%s: path is too long", real);
  memcpy(path, real, strlen(real) + 1);
  return 0;
}

static int search_dir(search *s, const char *dir, char *path, size_t cap, neap_error *err) {
  char file[PATH_BYTES];
  if (s->exact) return try_file(s, dir, s->name, path, cap, err);
  for (int pattern = 0; candidate(s, pattern, file, sizeof file); pattern++) {
    int rc = try_file(s, dir, file, path, cap, err);
    if (rc != NEAP_ENOENT) return rc;
  }
  return NEAP_ENOENT;
}

static int search_init(search *s, const char *plugin_dirs, const char *module_path, neap_error *err) {
  *s = (search){.module_path = module_path, .plugin_dirs = plugin_dirs ? plugin_dirs : ""};
  if (!*module_path) return neap__fail(err, NEAP_EINVAL, "module_path must be a non-empty string");
  if (strstr(module_path, "..")) {
    return neap__fail(err, NEAP_EINVAL, "module_path must not contain '..', got \"%.128s\"", module_path);
  }
  if (strlen(module_path) + sizeof "/init.lua" > PATH_BYTES / 2) {
    return neap__fail(err, NEAP_EINVAL, "module_path is longer than %d bytes", PATH_BYTES / 2);
  }
  snprintf(s->name, sizeof s->name, "%s", module_path);
  s->exact = ends_with(module_path, ".so") || ends_with(module_path, ".lua");
  for (char *c = s->name; !s->exact && !strchr(module_path, '/') && *c; c++) {
    if (*c == '.') *c = '/';
  }
  return 0;
}

int neap__registry_locate(const char *plugin_dirs, const char *module_path, char *path, size_t cap, neap_error *err) {
  search s;
  int rc = search_init(&s, plugin_dirs, module_path, err);
  if (rc) return rc;
  char *dirs = strdup(s.plugin_dirs), *rest = dirs, *dir;
  if (!dirs) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  rc = NEAP_ENOENT;
  /* An empty entry is skipped: it never means the working directory. */
  while (rc == NEAP_ENOENT && (dir = strsep(&rest, ":"))) {
    if (*dir) rc = search_dir(&s, dir, path, cap, err);
  }
  free(dirs);
  if (rc != NEAP_ENOENT) return rc;
  if (!s.plugin_dirs[strspn(s.plugin_dirs, ":")]) {
    return neap__fail(err, NEAP_ENOENT, "no module '%.128s': no plugin directory is set (--plugin-path)", module_path);
  }
  if (module_path[0] == '/' && !*s.tried) {
    return neap__fail(err, NEAP_EPERM, "%.128s is not below a plugin directory (--plugin-path is %.128s)", module_path,
                      s.plugin_dirs);
  }
  return neap__fail(err, NEAP_ENOENT, "no module '%.128s'; tried %s", module_path, s.tried);
}
