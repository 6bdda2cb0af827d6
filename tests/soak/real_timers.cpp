// SPDX-License-Identifier: MIT
//
// Preloaded before libfaketime, whose timerfd_settime() moves every absolute time by the steps of the wall clock, that of
// a monotonic timer, too: one in the past then fails with EINVAL or never fires. The kernel does neither.
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

extern "C" int timerfd_settime(int fd, int flags, const itimerspec* value, itimerspec* before) noexcept {
  return static_cast<int>(::syscall(SYS_timerfd_settime, fd, flags, value, before));
}
