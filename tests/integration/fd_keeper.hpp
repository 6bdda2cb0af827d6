// SPDX-License-Identifier: MIT
//
// What systemd does for a service that keeps descriptors: listens on its NOTIFY_SOCKET, keeps what comes with FDSTORE=1
// under its name, up to a limit and beyond it not, gives up what FDSTOREREMOVE=1 names, and hands all of it to the next
// broker. A thread of its own takes the messages, in their order.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proto/control/descriptor.hpp"
#include "tests/integration/within.hpp"

namespace holdfast::integration {

class FdKeeper {
 public:
  // Listens at `path`. `limit`: FileDescriptorStoreMax=.
  explicit FdKeeper(std::string path, std::size_t limit = 8192);
  FdKeeper(const FdKeeper&) = delete;
  FdKeeper& operator=(const FdKeeper&) = delete;
  ~FdKeeper();

  const std::string& path() const { return path_; }
  std::size_t limit() const { return limit_; }

  // Readable once a broker has said READY=1, until take_ready().
  int ready_fd() const { return ready_.get(); }
  void take_ready();

  // Waits until every message that has been sent so far is done with. Requires: nobody sends now.
  void settle();
  std::vector<std::string> names();
  // Duplicates of all that is kept, by name.
  std::map<std::string, Descriptor> duplicates();
  // As after `systemctl stop`, or without a store.
  void forget(const std::string& name);
  void forget_all();

 private:
  void listen();
  void obey(const std::string& message, std::vector<Descriptor> fds);

  std::string path_;
  std::size_t limit_;
  Descriptor socket_;
  Descriptor ready_;
  std::mutex mutex_;  // protects the next two
  std::condition_variable settled_;
  std::map<std::string, Descriptor> kept_;
  std::size_t settles_ = 0;  // of our own messages, which settle() sends behind those before
  std::thread thread_;  // last: it uses all the others
};

}  // namespace holdfast::integration
