// SPDX-License-Identifier: MIT
#include "daemon/listener.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace holdfast::daemon {

namespace {

std::string failed(const std::string& what, const std::string& path) {
  return what + " " + path + ": " + std::strerror(errno);
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Descriptor new_socket() { return Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

// Does anybody listen there? A full backlog is somebody, too.
bool answers(const std::string& path) {
  const Descriptor socket = new_socket();
  const sockaddr_un address = address_of(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;
}

std::pair<dev_t, ino_t> file_at(const std::string& path) {
  struct stat file{};
  if (::lstat(path.c_str(), &file) != 0) return {};
  return {file.st_dev, file.st_ino};
}

}  // namespace

Listener::~Listener() {
  if (!made_directory_.empty()) ::rmdir(made_directory_.c_str());
}

std::string Listener::make_directory(const Config& config) {
  std::error_code error;
  const std::filesystem::path directory(config.runtime_dir);
  if (std::filesystem::is_directory(directory, error)) return "";
  std::filesystem::create_directories(directory.parent_path(), error);
  if (::mkdir(directory.c_str(), 0750) != 0) return failed("cannot make the runtime directory", config.runtime_dir);
  made_directory_ = config.runtime_dir;
  std::optional<std::uint32_t> group;
  if (config.group.empty()) return "";
  if (const std::string wrong = find_group(config, group); !wrong.empty()) return wrong;
  if (::chown(directory.c_str(), static_cast<uid_t>(-1), *group) != 0)
    return failed("cannot give its group to", config.runtime_dir);
  return "";
}

std::string Listener::bind(const Config& config) {
  struct stat old{};
  if (::lstat(config.socket.c_str(), &old) == 0) {
    if (!S_ISSOCK(old.st_mode)) return config.socket + " is there and is no socket";
    if (answers(config.socket))
      return "somebody serves at " + config.socket +
             " already, perhaps the broker of another instance: give this one another socket (--socket, "
             "HOLDFAST_SOCKET)";
    if (::unlink(config.socket.c_str()) != 0) return failed("cannot remove the stale socket", config.socket);
  }
  const sockaddr_un address = address_of(config.socket);
  Descriptor socket = new_socket();
  if (!socket) return failed("cannot make the socket", config.socket);
  // The file must never be open to others, not even for a moment.
  const mode_t mask = ::umask(config.group.empty() ? 0177 : 0117);
  const int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(mask);
  errno = error;
  if (bound != 0) return failed("cannot bind the socket", config.socket);
  bound_path_ = config.socket;
  bound_file_ = file_at(bound_path_);
  if (!config.group.empty()) {
    std::optional<std::uint32_t> group;
    if (const std::string wrong = find_group(config, group); !wrong.empty()) return wrong;
    if (::chown(config.socket.c_str(), static_cast<uid_t>(-1), *group) != 0)
      return failed("cannot give its group to", config.socket);
  }
  if (::listen(socket.get(), SOMAXCONN) != 0) return failed("cannot listen on", config.socket);
  socket_ = std::move(socket);
  return "";
}

std::string Listener::find_group(const Config& config, std::optional<std::uint32_t>& group) const {
  if (!config.group.empty()) {
    group = group_id(config.group);
    if (!group) return "there is no group \"" + config.group + "\"";
    return "";
  }
  struct stat file{};
  if (adopted_ && ::stat(config.socket.c_str(), &file) == 0 && (file.st_mode & S_IWGRP) != 0) group = file.st_gid;
  return "";
}

void Listener::remove_socket() {
  if (!bound_path_.empty() && file_at(bound_path_) == bound_file_) ::unlink(bound_path_.c_str());
  bound_path_.clear();
}

}  // namespace holdfast::daemon
