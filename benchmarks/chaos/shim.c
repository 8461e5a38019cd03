/* Preloaded into a command: what it asks of the system about files under a folder is counted, told, and made to fail.

   ACCIDENT_ROOT      the folder; ACCIDENT_COUNTS: a file of KINDS numbers, how many calls of each kind there were
   ACCIDENT_KIND      the kind whose call number ACCIDENT_AT fails, and with ACCIDENT_LASTING all after it
   ACCIDENT_ERROR     the error that it fails with; 0: the command and all that it started are killed
   ACCIDENT_JOURNAL   a file that is told of each change: a line of op, path, other path, offset, size, and the bytes

   Memory counts in pieces of LARGE bytes and more, from the moment on that a file under the folder was touched. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, SYNC, RENAME, UNLINK, MKDIR, LINK, LOCK, TRUNCATE, MAP, LIST, STAT, MEMORY, CHANGE, KINDS };
static const char *const names[] = {"open", "read",     "write", "sync", "rename", "unlink", "mkdir", "link",
                                    "lock", "truncate", "map",   "list", "stat",   "memory", "change"};
enum { LARGE = 32768, FAR = -100000 };

static _Atomic uint64_t *counts;
static char root[PATH_MAX];
static size_t root_size;
static int wanted = -1, failure, lasting, journal = -1;
static uint64_t at;
static atomic_int touched;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("ACCIDENT_ROOT"), *numbers = getenv("ACCIDENT_COUNTS"), *kind = getenv("ACCIDENT_KIND");
    if (!where || !numbers) return;
    strncpy(root, where, sizeof root - 1);
    root_size = strlen(root);
    for (int k = 0; kind && k < KINDS; k++)
        if (!strcmp(kind, names[k])) wanted = k;
    at = strtoull(getenv("ACCIDENT_AT") ?: "0", NULL, 10);
    failure = atoi(getenv("ACCIDENT_ERROR") ?: "0");
    lasting = getenv("ACCIDENT_LASTING") != NULL;
    if (getenv("ACCIDENT_JOURNAL"))
        journal = (int)syscall(SYS_openat, AT_FDCWD, getenv("ACCIDENT_JOURNAL"),
                               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int file = (int)syscall(SYS_openat, AT_FDCWD, numbers, O_RDWR | O_CLOEXEC, 0600);
    void *map = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (map != MAP_FAILED) counts = map;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Whether this call fails: then errno says why. */
static int fails(int kind) {
    uint64_t number = atomic_fetch_add(&counts[kind], 1) + 1;
    if (kind != wanted || number < at || (number > at && !lasting) || !at) return 0;
    if (!failure) {
        kill(0, SIGKILL);
        for (;;) pause();
    }
    errno = failure;
    return 1;
}

static int inside(const char *path) {
    int found = counts && !strncmp(path, root, root_size) && (path[root_size] == '/' || !path[root_size]);
    if (found) atomic_store(&touched, 1);
    return found;
}

/* Whether an open file, or a path, is under the folder; its whole path goes to `full`, of PATH_MAX bytes. */
static int open_inside(int file, char *full) {
    char link[64];
    if (!counts) return 0;
    snprintf(link, sizeof link, file == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", file);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, full, (size_t)PATH_MAX - 1);
    if (size < 0) return 0;
    full[size] = 0;
    return inside(full);
}

static int path_inside(int folder, const char *path, char *full) {
    if (!counts || !path) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
        return inside(full);
    }
    char above[PATH_MAX];
    if (!open_inside(folder, above)) return 0;
    if (!strcmp(path, ".")) path = "";
    if (!strncmp(path, "./", 2)) path += 2;
    snprintf(full, PATH_MAX, "%.2000s%s%.2000s", above, *path ? "/" : "", path);
    return inside(full);
}

static void tell(const char *op, const char *path, const char *other, long long offset, const void *data, size_t size) {
    char line[2 * PATH_MAX + 100];
    if (journal < 0) return;
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%lld\t%zu\n", op, path, other, offset, size);
    struct iovec parts[] = {{line, (size_t)length}, {(void *)data, size}};
    syscall(SYS_writev, journal, parts, data ? 2 : 1);
}

/* A change is counted twice: by its kind, and as a change. */
#define CHANGES(kind) (fails(CHANGE) || fails(kind))
#define DO(call, op, path, other, offset, data, size)            \
    do {                                                         \
        pthread_mutex_lock(&turn);                               \
        __auto_type done = (call);                               \
        int error = errno;                                       \
        if (done >= 0) tell(op, path, other, offset, data, size); \
        pthread_mutex_unlock(&turn);                             \
        errno = error;                                           \
        return done;                                             \
    } while (0)

static int open_file(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!path_inside(folder, path, full)) return (int)syscall(SYS_openat, folder, path, flags | O_LARGEFILE, mode);
    int there = !syscall(SYS_faccessat, folder, path, F_OK), change = (flags & O_CREAT && !there) || flags & O_TRUNC;
    if (change ? CHANGES(OPEN) : fails(OPEN)) return -1;
    pthread_mutex_lock(&turn);
    int file = (int)syscall(SYS_openat, folder, path, flags | O_LARGEFILE, mode), error = errno;
    if (file >= 0 && (flags & O_TMPFILE) != O_TMPFILE) {
        if (flags & O_CREAT && !there) tell("create", full, "", 0, NULL, 0);
        if (flags & O_TRUNC && there) tell("truncate", full, "", 0, NULL, 0);
    }
    pthread_mutex_unlock(&turn);
    errno = error;
    return file;
}

#define MODE(flags) va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest)
int open(const char *path, int flags, ...) { MODE(flags); return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags); return open_file(AT_FDCWD, path, flags, mode); }
int openat(int f, const char *path, int flags, ...) { MODE(flags); return open_file(f, path, flags, mode); }
int openat64(int f, const char *path, int flags, ...) { MODE(flags); return open_file(f, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* C++ streams. Nothing of ours writes with them. */
FILE *fopen(const char *path, const char *how) {
    char full[PATH_MAX];
    return path_inside(AT_FDCWD, path, full) && fails(OPEN) ? NULL : REAL(fopen)(path, how);
}
FILE *fopen64(const char *path, const char *how) {
    char full[PATH_MAX];
    return path_inside(AT_FDCWD, path, full) && fails(OPEN) ? NULL : REAL(fopen64)(path, how);
}

static int read_fails(int file) {
    char full[PATH_MAX];
    return open_inside(file, full) && fails(READ);
}
ssize_t read(int f, void *b, size_t n) { return read_fails(f) ? -1 : REAL(read)(f, b, n); }
ssize_t pread(int f, void *b, size_t n, off_t o) { return read_fails(f) ? -1 : REAL(pread)(f, b, n, o); }
ssize_t pread64(int f, void *b, size_t n, off64_t o) { return read_fails(f) ? -1 : REAL(pread64)(f, b, n, o); }
ssize_t readv(int f, const struct iovec *v, int n) { return read_fails(f) ? -1 : REAL(readv)(f, v, n); }

static ssize_t write_file(int file, const void *data, size_t size, off_t offset) {
    char full[PATH_MAX];
    int ours = open_inside(file, full);
    if (ours && CHANGES(WRITE)) return -1;
    pthread_mutex_lock(&turn);
    ssize_t done = offset == FAR ? syscall(SYS_write, file, data, size) : syscall(SYS_pwrite64, file, data, size, offset);
    int error = errno;
    if (ours && done > 0) {
        if (offset == FAR) offset = lseek(file, 0, SEEK_CUR) - done;
        tell("write", full, "", offset, data, (size_t)done);
    }
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
ssize_t write(int file, const void *data, size_t size) {
    char full[PATH_MAX];
    return open_inside(file, full) ? write_file(file, data, size, FAR) : syscall(SYS_write, file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at_) { return write_file(file, data, size, at_); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at_) { return write_file(file, data, size, at_); }
ssize_t writev(int file, const struct iovec *parts, int count) {
    char full[PATH_MAX];
    if (!open_inside(file, full)) return syscall(SYS_writev, file, parts, count);
    return count ? write_file(file, parts[0].iov_base, parts[0].iov_len, FAR) : 0; /* it may write less */
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    char full[PATH_MAX];
    if (!open_inside(to, full)) return REAL(sendfile64)(to, from, offset, size);
    errno = ENOTSOCK; /* then it is copied by reading and writing */
    return -1;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) { return sendfile64(to, from, offset, size); }

/* What C's own streams wrote is seen here for the first time. */
static void tell_content(const char *path) {
    int file = journal < 0 ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    struct stat found;
    if (file < 0) return;
    if (!REAL(fstat)(file, &found) && S_ISREG(found.st_mode) && found.st_size) {
        void *data = (void *)syscall(SYS_mmap, NULL, found.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (data != MAP_FAILED) {
            tell("write", path, "", 0, data, (size_t)found.st_size);
            syscall(SYS_munmap, data, found.st_size);
        }
    }
    syscall(SYS_close, file);
}

static int sync_file(int file, long number) {
    char full[PATH_MAX];
    if (!open_inside(file, full)) return (int)syscall(number, file);
    if (CHANGES(SYNC)) return -1;
    tell_content(full);
    DO((int)syscall(number, file), "sync", full, "", 0, NULL, 0);
}
int fsync(int file) { return sync_file(file, SYS_fsync); }
int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }

static int move(int from, const char *a, int to, const char *b, unsigned how, int kind, const char *op, long call) {
    char one[PATH_MAX], two[PATH_MAX];
    int ours = path_inside(from, a, one);
    ours = path_inside(to, b, two) || ours;
    if (!ours) return (int)syscall(call, from, a, to, b, how);
    if (CHANGES(kind)) return -1;
    DO((int)syscall(call, from, a, to, b, how), op, one, two, how, NULL, 0);
}
int rename(const char *a, const char *b) { return move(AT_FDCWD, a, AT_FDCWD, b, 0, RENAME, "rename", SYS_renameat2); }
int renameat(int f, const char *a, int t, const char *b) { return move(f, a, t, b, 0, RENAME, "rename", SYS_renameat2); }
int renameat2(int f, const char *a, int t, const char *b, unsigned how) {
    return move(f, a, t, b, how, RENAME, "rename", SYS_renameat2);
}
int link(const char *a, const char *b) { return move(AT_FDCWD, a, AT_FDCWD, b, 0, LINK, "link", SYS_linkat); }
int linkat(int f, const char *a, int t, const char *b, int how) {
    return move(f, a, t, b, (unsigned)how, LINK, "link", SYS_linkat);
}

static int remove_at(int folder, const char *path, int flags) {
    char full[PATH_MAX];
    if (!path_inside(folder, path, full)) return (int)syscall(SYS_unlinkat, folder, path, flags);
    if (CHANGES(UNLINK)) return -1;
    DO((int)syscall(SYS_unlinkat, folder, path, flags), "unlink", full, "", 0, NULL, 0);
}
int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return remove_at(folder, path, flags); }
int rmdir(const char *path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!path_inside(folder, path, full)) return (int)syscall(SYS_mkdirat, folder, path, mode);
    if (CHANGES(MKDIR)) return -1;
    DO((int)syscall(SYS_mkdirat, folder, path, mode), "mkdir", full, "", 0, NULL, 0);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int ftruncate(int file, off_t size) {
    char full[PATH_MAX];
    if (!open_inside(file, full)) return (int)syscall(SYS_ftruncate, file, size);
    if (CHANGES(TRUNCATE)) return -1;
    DO((int)syscall(SYS_ftruncate, file, size), "truncate", full, "", size, NULL, 0);
}
int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }

int flock(int file, int how) {
    char full[PATH_MAX];
    return open_inside(file, full) && !(how & LOCK_UN) && fails(LOCK) ? -1 : (int)syscall(SYS_flock, file, how);
}
static int control(int file, int what, void *value) {
    char full[PATH_MAX];
    int locks = what == F_SETLK || what == F_SETLKW || what == F_OFD_SETLK;
    if (locks && ((struct flock *)value)->l_type != F_UNLCK && open_inside(file, full) && fails(LOCK)) return -1;
    return (int)syscall(SYS_fcntl, file, what, value);
}
#define VALUE(what) va_list rest; va_start(rest, what); void *value = va_arg(rest, void *); va_end(rest)
int fcntl(int file, int what, ...) { VALUE(what); return control(file, what, value); }
int fcntl64(int file, int what, ...) { VALUE(what); return control(file, what, value); }

DIR *opendir(const char *path) {
    char full[PATH_MAX];
    return path_inside(AT_FDCWD, path, full) && fails(LIST) ? NULL : REAL(opendir)(path);
}
DIR *fdopendir(int file) {
    char full[PATH_MAX];
    return open_inside(file, full) && fails(LIST) ? NULL : REAL(fdopendir)(file);
}
struct dirent64 *readdir64(DIR *folder) {
    char full[PATH_MAX];
    return open_inside(dirfd(folder), full) && fails(LIST) ? NULL : REAL(readdir64)(folder);
}
struct dirent *readdir(DIR *folder) { return (struct dirent *)readdir64(folder); }

static int look_fails(int folder, const char *path) {
    char full[PATH_MAX];
    return path_inside(folder, path, full) && fails(STAT);
}
int stat(const char *p, struct stat *s) { return look_fails(AT_FDCWD, p) ? -1 : REAL(stat)(p, s); }
int stat64(const char *p, struct stat64 *s) { return look_fails(AT_FDCWD, p) ? -1 : REAL(stat64)(p, s); }
int lstat(const char *p, struct stat *s) { return look_fails(AT_FDCWD, p) ? -1 : REAL(lstat)(p, s); }
int lstat64(const char *p, struct stat64 *s) { return look_fails(AT_FDCWD, p) ? -1 : REAL(lstat64)(p, s); }
int fstatat64(int f, const char *p, struct stat64 *s, int how) {
    return look_fails(f, p) ? -1 : REAL(fstatat64)(f, p, s, how);
}

static int short_of_memory(size_t size) {
    return counts && size >= LARGE && atomic_load(&touched) && fails(MEMORY);
}
static void *map_pages(void *where, size_t size, int may, int how, int file, off_t offset) {
    char full[PATH_MAX];
    if (how & MAP_ANONYMOUS ? short_of_memory(size) : open_inside(file, full) && fails(MAP)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, where, size, may, how, file, offset);
}
void *mmap(void *w, size_t n, int may, int how, int f, off_t o) { return map_pages(w, n, may, how, f, o); }
void *mmap64(void *w, size_t n, int may, int how, int f, off64_t o) { return map_pages(w, n, may, how, f, o); }

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *malloc(size_t size) { return short_of_memory(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return short_of_memory(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return short_of_memory(size) ? NULL : __libc_realloc(old, size); }
void *memalign(size_t by, size_t size) { return short_of_memory(size) ? NULL : __libc_memalign(by, size); }
void *aligned_alloc(size_t by, size_t size) { return memalign(by, size); }
int posix_memalign(void **place, size_t by, size_t size) {
    if (short_of_memory(size)) return ENOMEM;
    *place = __libc_memalign(by, size);
    return *place ? 0 : ENOMEM;
}
