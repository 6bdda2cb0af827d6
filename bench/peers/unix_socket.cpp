// SPDX-License-Identifier: MIT
//
// Unix stream sockets: the sender listens, every receiver connects.
#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

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

class SocketSender : public Sender {
 public:
  SocketSender(const std::string& topic, const Shape& shape)
      : shape_(shape),
        message_(shape.bytes),
        listener_(make_socket()) {
    const sockaddr_un address = address_of(topic);
    unlink(address.sun_path);
    if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) call_failed("bind");
    if (listen(listener_.get(), 128) != 0) call_failed("listen");
  }

  void send(const void* head, std::size_t head_bytes) override {
    while (ends_.size() < shape_.receivers) accept_one();
    std::memcpy(message_.data(), head, head_bytes);
    for (const Descriptor& end : ends_) write_all(end.get(), message_.data(), message_.size());
  }

 private:
  void accept_one() {
    Descriptor end(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (end.get() < 0) call_failed("accept");
    set_wait(end, shape_.wait);
    ends_.push_back(std::move(end));
  }

  Shape shape_;
  std::vector<unsigned char> message_;
  Descriptor listener_;
  std::vector<Descriptor> ends_;
};

class SocketReceiver : public Receiver {
 public:
  SocketReceiver(const std::string& topic, const Shape& shape) : message_(shape.bytes), end_(make_socket()) {
    const sockaddr_un address = address_of(topic);
    while (connect(end_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      if (errno != ENOENT && errno != ECONNREFUSED) call_failed("connect");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    set_wait(end_, shape.wait);
  }

  void receive(void* head, std::size_t head_bytes) override {
    read_all(end_.get(), message_.data(), message_.size());
    std::memcpy(head, message_.data(), head_bytes);
  }

 private:
  std::vector<unsigned char> message_;
  Descriptor end_;
};

class SocketPeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    return std::make_unique<SocketSender>(topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    return std::make_unique<SocketReceiver>(topic, shape);
  }
};

}  // namespace

std::unique_ptr<Peer> make_unix_socket() { return std::make_unique<SocketPeer>(); }

}  // namespace holdfast::bench
