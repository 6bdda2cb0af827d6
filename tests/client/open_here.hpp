// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>

namespace holdfast::client {

// Whether this process has `fd` open.
inline bool open_here(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace holdfast::client
