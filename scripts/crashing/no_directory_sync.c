/* Preloaded into a broker, it makes it forget to sync directories: for showing that a test would find that. */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd) {
    struct stat found;
    if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) {
        return 0;
    }
    return (int)syscall(SYS_fsync, fd);
}
