// Cuts the power of a mounted file system: what is not on the device at this moment never will be, not even the journal's
// last blocks (FS_IOC_SHUTDOWN without a flush). Usage: powercut MOUNTPOINT
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int count, char **arguments) {
    __u32 without_flush = 2;
    if (count != 2) return 2;
    int place = open(arguments[1], O_RDONLY);
    if (place < 0 || ioctl(place, _IOR('X', 125, __u32), &without_flush) != 0) {
        perror("powercut");
        return 1;
    }
    return 0;
}
