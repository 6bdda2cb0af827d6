// SPDX-License-Identifier: MIT
//
// Unix stream sockets: the sender listens, every receiver connects.
#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/peers/byte_stream.hpp"
#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

sockaddr_un address_of(const std::string& topic) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = runtime_folder() + "/" + flat(topic) + ".sock";
  if (path.size() >= sizeof address.sun_path) cannot("the path of the socket is too long");
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

Descriptor make_socket() {
  Descriptor made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (made.get() < 0) call_failed("socket");
  return made;
}

void set_wait(const Descriptor& end, Wait wait) {
  if (wait == Wait::kSpin && fcntl(end.get(), F_SETFL, O_NONBLOCK) != 0) call_failed("fcntl");
}

class SocketSender : public StreamSender {
 public:
  SocketSender(const std::string& topic, const Shape& shape)
      : StreamSender(shape.bytes, {}),
        shape_(shape),
        listener_(make_socket()) {
    const sockaddr_un address = address_of(topic);
    unlink(address.sun_path);
    if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) call_failed("bind");
    if (listen(listener_.get(), 128) != 0) call_failed("listen");
  }

  void send(const void* head, std::size_t head_bytes) override {
    while (end_count() < shape_.receivers) accept_one();
    StreamSender::send(head, head_bytes);
  }

 private:
  void accept_one() {
    Descriptor end(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (end.get() < 0) call_failed("accept");
    set_wait(end, shape_.wait);
    add(std::move(end));
  }

  Shape shape_;
  Descriptor listener_;
};

// Asks again while the other process has not begun to listen. That is before anything is measured; where one process has
// both ends, the sender is there first.
Descriptor connect_to(const std::string& topic, Wait wait) {
  Descriptor end = make_socket();
  const sockaddr_un address = address_of(topic);
  while (connect(end.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno != ENOENT && errno != ECONNREFUSED) call_failed("connect");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  set_wait(end, wait);
  return end;
}

class SocketPeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    return std::make_unique<SocketSender>(topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    return std::make_unique<StreamReceiver>(shape.bytes, connect_to(topic, shape.wait));
  }
};

}  // namespace

std::unique_ptr<Peer> make_unix_socket() { return std::make_unique<SocketPeer>(); }

}  // namespace holdfast::bench
