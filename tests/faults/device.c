// A device that fails: loaded before the C library into a process under test (LD_PRELOAD), so that the program is the one
// that is shipped. While a file named FAULT_UNDER + ".sync" exists, syncing any file below FAULT_UNDER fails with EIO; with
// ".write", writing one tears: the first half reaches the file, and the call fails with EIO.
//
// With FAULT_KILL the process is killed instead (SIGKILL) at a named point: "PART OPERATION N before|after", where PART is
// what the file's path must contain, OPERATION is write, sync, create, rename or remove, and N counts from 1. It leaves
// FAULT_UNDER + ".killed" behind, so that whoever asked knows that the point was reached.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int path_of(int fd, char *path, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    if (length < 0) return 0;
    path[length] = '\0';
    return 1;
}

static int below(const char *path) {
    const char *under = getenv("FAULT_UNDER");
    return under != NULL && strncmp(path, under, strlen(under)) == 0;
}

static int fails(int fd, const char *what) {
    char path[4096], flag[4096 + 16];
    if (getenv("FAULT_UNDER") == NULL || !path_of(fd, path, sizeof path) || !below(path)) return 0;
    snprintf(flag, sizeof flag, "%s.%s", getenv("FAULT_UNDER"), what);
    return access(flag, F_OK) == 0;
}

// 0: go on; 1: this is the operation to be killed at.
static int reached(const char *path, const char *operation) {
    static atomic_int count;
    const char *kill_at = getenv("FAULT_KILL");
    char part[128], wanted[16], side[8];
    int n;
    if (kill_at == NULL || !below(path)) return 0;
    if (sscanf(kill_at, "%127s %15s %d %7s", part, wanted, &n, side) != 4) return 0;
    if (strcmp(wanted, operation) != 0 || strstr(path, part) == NULL) return 0;
    return atomic_fetch_add(&count, 1) + 1 == n;
}

static void die(void) {
    char flag[4096 + 16];
    snprintf(flag, sizeof flag, "%s.killed", getenv("FAULT_UNDER"));
    int fd = (int)syscall(SYS_openat, AT_FDCWD, flag, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) syscall(SYS_close, fd);
    kill(getpid(), SIGKILL);
    pause();
}

static int before(void) {
    const char *kill_at = getenv("FAULT_KILL");
    return kill_at != NULL && strstr(kill_at, "before") != NULL;
}

// Runs CALL with a kill before or after it where the point is.
#define AT_POINT(path, operation, call)            \
    do {                                           \
        int here = reached(path, operation);       \
        if (here && before()) die();               \
        long result = (call);                      \
        if (here) die();                           \
        return result;                             \
    } while (0)

static int sync_or_fail(int fd, long call) {
    char path[4096] = "";
    if (fails(fd, "sync")) {
        errno = EIO;
        return -1;
    }
    path_of(fd, path, sizeof path);
    AT_POINT(path, "sync", syscall(call, fd));
}

int fdatasync(int fd) { return sync_or_fail(fd, SYS_fdatasync); }

int fsync(int fd) { return sync_or_fail(fd, SYS_fsync); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    char path[4096] = "";
    if (fails(fd, "write")) {
        syscall(SYS_pwrite64, fd, bytes, count / 2, offset);
        errno = EIO;
        return -1;
    }
    path_of(fd, path, sizeof path);
    AT_POINT(path, "write", syscall(SYS_pwrite64, fd, bytes, count, offset));
}

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = (mode_t)va_arg(rest, int);
        va_end(rest);
    }
    if (!(flags & O_CREAT)) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    AT_POINT(path, "create", syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int rename(const char *from, const char *to) {
    AT_POINT(to, "rename", syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int unlink(const char *path) { AT_POINT(path, "remove", syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }
