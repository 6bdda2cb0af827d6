// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <string>

#include <sys/un.h>

#include "tests/integration/within.hpp"

namespace holdfast::integration {

// Of a socket in the file system. Throws Broken: the path is too long.
inline sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw Broken("the socket's path is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

}  // namespace holdfast::integration
