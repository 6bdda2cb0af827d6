// SPDX-License-Identifier: MIT
//
// ZeroMQ over ipc://: PUSH and PULL where there is one receiver, XPUB and SUB where there are several. Its I/O thread
// may run on any CPU.
#include <string>
#include <vector>

#include <zmq.h>

#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

void must(int result, const char* call) {
  if (result < 0) throw std::runtime_error(std::string(call) + ": " + zmq_strerror(zmq_errno()));
}

std::string address_of(const std::string& topic) { return "ipc://" + runtime_folder() + "/" + flat(topic) + ".zmq"; }

class Socket {
 public:
  Socket(void* context, int type) : socket_(zmq_socket(context, type)) {
    if (socket_ == nullptr) must(-1, "zmq_socket");
    const int linger = 0;
    must(zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger), "zmq_setsockopt");
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { zmq_close(socket_); }
  void* get() const { return socket_; }

 private:
  void* socket_;
};

// A thread that spins gives its CPU away to others between two looks: the I/O threads need it.
void look_again(const char* call) {
  if (zmq_errno() != EAGAIN && zmq_errno() != EINTR) must(-1, call);
  sched_yield();
}

class ZmqSender : public Sender {
 public:
  ZmqSender(void* context, const std::string& topic, const Shape& shape)
      : socket_(context, shape.receivers == 1 ? ZMQ_PUSH : ZMQ_XPUB),
        flags_(shape.wait == Wait::kSpin ? ZMQ_DONTWAIT : 0),
        awaited_(shape.receivers == 1 ? 0 : shape.receivers),
        message_(shape.bytes) {
    if (shape.receivers > 1) {
      const int every = 1;  // tell of every subscription, not of the first of its kind
      must(zmq_setsockopt(socket_.get(), ZMQ_XPUB_VERBOSE, &every, sizeof every), "zmq_setsockopt");
    }
    must(zmq_bind(socket_.get(), address_of(topic).c_str()), "zmq_bind");
  }

  void send(const void* head, std::size_t head_bytes) override {
    for (; awaited_ > 0; --awaited_) {
      char subscription = 0;
      must(zmq_recv(socket_.get(), &subscription, 1, 0), "zmq_recv");
    }
    std::memcpy(message_.data(), head, head_bytes);
    while (zmq_send(socket_.get(), message_.data(), message_.size(), flags_) < 0) look_again("zmq_send");
  }

 private:
  Socket socket_;
  int flags_;
  std::uint32_t awaited_;
  std::vector<unsigned char> message_;
};

class ZmqReceiver : public Receiver {
 public:
  ZmqReceiver(void* context, const std::string& topic, const Shape& shape)
      : socket_(context, shape.receivers == 1 ? ZMQ_PULL : ZMQ_SUB),
        flags_(shape.wait == Wait::kSpin ? ZMQ_DONTWAIT : 0),
        bytes_(shape.bytes) {
    if (shape.receivers > 1) must(zmq_setsockopt(socket_.get(), ZMQ_SUBSCRIBE, "", 0), "zmq_setsockopt");
    must(zmq_connect(socket_.get(), address_of(topic).c_str()), "zmq_connect");
    zmq_msg_init(&message_);
  }
  ~ZmqReceiver() override { zmq_msg_close(&message_); }

  void receive(void* head, std::size_t head_bytes) override {
    while (zmq_msg_recv(&message_, socket_.get(), flags_) < 0) look_again("zmq_msg_recv");
    require(zmq_msg_size(&message_) == bytes_, "a message has the wrong size");
    std::memcpy(head, zmq_msg_data(&message_), head_bytes);
  }

 private:
  Socket socket_;
  int flags_;
  std::size_t bytes_;
  zmq_msg_t message_{};
};

class ZmqPeer : public Peer {
 public:
  ZmqPeer() : context_(zmq_ctx_new()) {}
  ~ZmqPeer() override { zmq_ctx_term(context_); }

  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<ZmqSender>(context_, topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<ZmqReceiver>(context_, topic, shape);
  }

 private:
  void* context_;
};

}  // namespace

std::unique_ptr<Peer> make_zeromq() { return std::make_unique<ZmqPeer>(); }

}  // namespace holdfast::bench
