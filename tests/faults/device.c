// A device that fails: loaded before the C library into a process under test (LD_PRELOAD), so that the program is the one
// that is shipped. While a file named FAULT_UNDER + ".sync" exists, syncing any file below FAULT_UNDER fails with EIO; with
// ".write", writing one tears: the first half reaches the file, and the call fails with EIO.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd, const char *what) {
    const char *under = getenv("FAULT_UNDER");
    char name[64], path[4096], flag[4096];
    if (under == NULL) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = '\0';
    if (strncmp(path, under, strlen(under)) != 0) return 0;
    snprintf(flag, sizeof flag, "%s.%s", under, what);
    return access(flag, F_OK) == 0;
}

static int sync_or_fail(int fd, long call) {
    if (fails(fd, "sync")) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fdatasync(int fd) { return sync_or_fail(fd, SYS_fdatasync); }

int fsync(int fd) { return sync_or_fail(fd, SYS_fsync); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    if (fails(fd, "write")) {
        syscall(SYS_pwrite64, fd, bytes, count / 2, offset);
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, count, offset);
}
