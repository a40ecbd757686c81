/* SPDX-License-Identifier: MIT
 *
 * cli/dirs.c - where the running program finds lua/ and the adapters.
 *
 * Everything is relative to the executable, so that an installation can be moved. A build tree is told from an
 * installation by the file lib/neap/source-dir that CMake writes there. Not here: what may be loaded from these folders
 * (l2/registry.h). */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

static bool is_dir(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The folder above the one that holds the executable, without a slash at its end. */
static bool find_prefix(char *prefix, size_t cap) {
  ssize_t n = readlink("/proc/self/exe", prefix, cap - 1);
  if (n <= 0) return false;
  prefix[n] = '\0';
  for (int up = 0; up < 2; up++) {
    char *slash = strrchr(prefix, '/');
    if (!slash) return false;
    *slash = '\0';
  }
  return true;
}

/* The source tree that `prefix` is a build tree of. */
static bool find_source(const char *prefix, char *source, size_t cap) {
  char path[PATH_MAX + 32];
  snprintf(path, sizeof(path), "%s/lib/neap/source-dir", prefix);
  FILE *file = fopen(path, "re");
  if (!file) return false;
  bool ok = fgets(source, (int)cap, file) != NULL;
  fclose(file);
  if (ok) source[strcspn(source, "\n")] = '\0';
  return ok && source[0];
}

static void set_dir(char *dir, size_t cap, const char *base, const char *below) {
  char path[PATH_MAX + 32];
  int n = snprintf(path, sizeof(path), "%s/%s", base, below);
  if (n > 0 && (size_t)n < cap && is_dir(path)) memcpy(dir, path, (size_t)n + 1);
}

static void add_plugins(neap__dirs *dirs, const char *base, const char *below) {
  char path[PATH_MAX + 32];
  int n = snprintf(path, sizeof(path), "%s/%s", base, below);
  size_t used = strlen(dirs->plugins);
  if (n <= 0 || used + (size_t)n + 2 > sizeof(dirs->plugins) || !is_dir(path)) return;
  if (used) dirs->plugins[used++] = ':';
  memcpy(dirs->plugins + used, path, (size_t)n + 1);
}

void neap__dirs_find(neap__dirs *dirs) {
  char prefix[PATH_MAX], source[PATH_MAX];
  memset(dirs, 0, sizeof(*dirs));
  if (find_prefix(prefix, sizeof(prefix))) {
    if (find_source(prefix, source, sizeof(source))) {
      set_dir(dirs->lua, sizeof(dirs->lua), source, "lua");
      set_dir(dirs->templates, sizeof(dirs->templates), source, "examples/templates");
      add_plugins(dirs, source, "adapters");
      add_plugins(dirs, source, "examples");
      add_plugins(dirs, prefix, "lib/neap/adapters");
    } else {
      set_dir(dirs->lua, sizeof(dirs->lua), prefix, "share/neap/lua");
      set_dir(dirs->templates, sizeof(dirs->templates), prefix, "share/neap/templates");
      add_plugins(dirs, prefix, "share/neap/adapters");
      add_plugins(dirs, prefix, NEAP_LIBDIR "/neap/adapters");
    }
  }
  const char *lua = getenv("NEAP_LUA_DIR");
  if (lua && *lua) snprintf(dirs->lua, sizeof(dirs->lua), "%s", lua);
}

int neap__dirs_add_plugins(neap__dirs *dirs, const char *folders, neap_error *err) {
  char shipped[sizeof(dirs->plugins)];
  if (!folders || !*folders) return 0;
  memcpy(shipped, dirs->plugins, sizeof(shipped));
  int n = snprintf(dirs->plugins, sizeof(dirs->plugins), "%s%s%s", folders, *shipped ? ":" : "", shipped);
  if (n > 0 && (size_t)n < sizeof(dirs->plugins)) return 0;
  return neap__fail(err, NEAP_ELIMIT, "--plugin-path is longer than %zu bytes",
                    sizeof(dirs->plugins) - strlen(shipped));
}
