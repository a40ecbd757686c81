/* SPDX-License-Identifier: MIT
 *
 * cli/new.c - `neap new adapter NAME.lua|NAME.c`: a store that works, to be changed.
 *
 * What it writes lies as files beside the program (examples/templates, installed as share/neap/templates) and is valid
 * code under the name "skeleton"; here that name is replaced. Nothing is ever overwritten. Main thread. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "options.h"

#define NAME_MAX_BYTES 64
#define TEMPLATE_BYTES 65536

static const char help_text[] =
    "usage: neap new adapter NAME.lua|NAME.c [--dir DIR]\n\n"
    "Writes a store that works and passes `neap check`: NAME.lua, or NAME.c with a CMakeLists.txt that builds it "
    "against\n"
    "an installed neap. NAME is made of small letters, digits and '_'.\n\n"
    "options:\n"
    "  --dir DIR  where to write; made if it is not there (default: here)\n"
    "  --help     show this and exit\n\n"
    "Exit status: 0 written, 1 not written, 2 the command line was wrong.\n";

typedef struct names {
  char name[NAME_MAX_BYTES], class[NAME_MAX_BYTES]; /* my_store, MyStore */
  const char *suffix;                               /* ".lua" or ".c" */
} names;

static int read_name(const char *file, names *out, neap_error *err) {
  const char *dot = strchr(file, '.');
  size_t n = dot ? (size_t)(dot - file) : strlen(file), used = 0;
  if (!dot || (strcmp(dot, ".lua") != 0 && strcmp(dot, ".c") != 0))
    return neap__fail(err, NEAP_EINVAL, "'%.64s': expected NAME.lua or NAME.c", file);
  if (n == 0 || n >= NAME_MAX_BYTES || !islower((unsigned char)file[0]) ||
      strspn(file, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
    return neap__fail(err, NEAP_EINVAL, "'%.64s': expected a name of 1 to %d small letters, digits and '_'%s", file,
                      NAME_MAX_BYTES - 1, strchr(file, '/') ? "; a directory goes to --dir" : "");
  *out = (names){.suffix = dot};
  memcpy(out->name, file, n);
  for (size_t i = 0; i < n; i++) {
    if (file[i] == '_') continue;
    bool first = i == 0 || file[i - 1] == '_';
    out->class[used++] = (char)(first ? toupper((unsigned char)file[i]) : file[i]);
  }
  return 0;
}

/* The whole template behind its first line, which is the licence of this tree and not the author's. */
static int read_template(const char *dir, const char *file, char *text, size_t cap, neap_error *err) {
  char path[600];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  FILE *in = fopen(path, "re");
  if (!in) return neap__fail(err, NEAP_ENOENT, "the template %s is missing: %s", path, strerror(errno));
  bool ok = fgets(text, (int)cap, in) != NULL;
  size_t n = fread(text, 1, cap - 1, in);
  ok = ok && n > 0 && feof(in);
  fclose(in);
  text[n] = '\0';
  return ok ? 0 : neap__fail(err, NEAP_EIO, "the template %s cannot be read", path);
}

static void write_named(FILE *out, const char *text, const names *n) {
  for (const char *at; (at = strstr(text, "keleton")) != NULL; text = at + strlen("keleton")) {
    bool class = at[-1] == 'S';
    fwrite(text, 1, (size_t)(at - 1 - text), out);
    fputs(class ? n->class : n->name, out);
  }
  fputs(text, out);
}

static int write_file(const char *path, const char *text, const names *n, neap_error *err) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST) return neap__fail(err, NEAP_EEXIST, "%s is there already; it is left as it is", path);
  FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
  if (!out) return neap__fail(err, NEAP_EIO, "%s: %s", path, strerror(errno));
  write_named(out, text, n);
  if (fclose(out) != 0) return neap__fail(err, NEAP_EIO, "%s: %s", path, strerror(errno));
  printf("wrote %s\n", path);
  return 0;
}

/* target: the name that the file gets; its template is target's, or the adapter's of that suffix. */
static int make_file(const neap__dirs *dirs, const char *dir, const char *template, const char *target, const names *n,
                     neap_error *err) {
  static char text[TEMPLATE_BYTES];
  char path[4096];
  int rc = read_template(dirs->templates, template, text, sizeof(text), err);
  if (rc != 0) return rc;
  if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, target) >= sizeof(path))
    return neap__fail(err, NEAP_EINVAL, "--dir: the path is too long");
  return write_file(strncmp(path, "./", 2) == 0 ? path + 2 : path, text, n, err);
}

static int make(const neap__dirs *dirs, const char *dir, const names *n, neap_error *err) {
  char target[NAME_MAX_BYTES + 8], cmake[4200];
  bool lua = strcmp(n->suffix, ".lua") == 0;
  const char *in = strcmp(dir, ".") == 0 ? "" : dir, *slash = *in ? "/" : "";
  if (mkdir(dir, 0755) != 0 && errno != EEXIST) return neap__fail(err, NEAP_EIO, "%s: %s", dir, strerror(errno));
  snprintf(cmake, sizeof(cmake), "%s/CMakeLists.txt", dir);
  if (!lua && access(cmake, F_OK) == 0)
    return neap__fail(err, NEAP_EEXIST, "%s is there already; name an empty directory with --dir", cmake);
  snprintf(target, sizeof(target), "%s%s", n->name, n->suffix);
  int rc = make_file(dirs, dir, lua ? "adapter.lua" : "adapter.c", target, n, err);
  if (rc == 0 && !lua) rc = make_file(dirs, dir, "CMakeLists.txt", "CMakeLists.txt", n, err);
  if (rc != 0) return rc;
  if (lua)
    printf("next: neap check %s%s%s\n", in, *in ? "/" : "./", target);
  else
    printf("next: cmake -S %s -B %s%sbuild && cmake --build %s%sbuild && neap check %s%sbuild/%s.so\n", dir, in, slash,
           in, slash, *in ? in : ".", "/", n->name);
  return 0;
}

int neap__cmd_new(int argc, char **argv) {
  const char *words[2], *dir = ".";
  bool help = false;
  size_t count = 0;
  neap_error err = {0};
  names n;
  static neap__dirs dirs;
  const neap__option table[] = {{.name = "dir", .kind = NEAP_OPTION_TEXT, .value = &dir},
                                {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &help}};
  int rc = neap__options_parse(argc, argv, table, NEAP_ARRAY_LEN(table), words, 2, &count, &err);
  if (rc == 0 && help) {
    fputs(help_text, stdout);
    return 0;
  }
  if (rc == 0 && (count != 2 || strcmp(words[0], "adapter") != 0))
    rc = neap__fail(&err, NEAP_EINVAL, "expected: neap new adapter NAME.lua or NAME.c");
  if (rc == 0) rc = read_name(words[1], &n, &err);
  if (rc != 0) {
    fprintf(stderr, "neap new: %s (see neap help new)\n", err.text);
    return 2;
  }
  neap__dirs_find(&dirs);
  rc = make(&dirs, dir, &n, &err);
  if (rc != 0) fprintf(stderr, "neap new: %s\n", err.text);
  return rc ? 1 : 0;
}
