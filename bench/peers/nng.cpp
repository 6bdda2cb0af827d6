// SPDX-License-Identifier: MIT
//
// nng over ipc://: PUSH and PULL where there is one receiver, PUB and SUB where there are several. Its threads may run on
// any CPU.
#include <chrono>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>

#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

constexpr int kBufferedMessages = 64;  // as many as Holdfast's ring holds

void must(int result, const char* call) {
  if (result != 0) throw std::runtime_error(std::string(call) + ": " + nng_strerror(result));
}

std::string address_of(const std::string& topic) { return "ipc://" + runtime_folder() + "/" + flat(topic) + ".nng"; }

// A thread that spins gives its CPU away to others between two looks: the threads of the library need it.
void look_again(int result, const char* call) {
  if (result != NNG_EAGAIN) must(result, call);
  sched_yield();
}

int flags_of(Wait wait) { return wait == Wait::kSpin ? NNG_FLAG_NONBLOCK : 0; }

class NngSender : public Sender {
 public:
  NngSender(const std::string& topic, const Shape& shape)
      : flags_(flags_of(shape.wait)),
        awaited_(shape.receivers),
        message_(shape.bytes) {
    must(shape.receivers == 1 ? nng_push0_open(&socket_) : nng_pub0_open(&socket_), "nng_open");
    must(nng_socket_set_int(socket_, NNG_OPT_SENDBUF, kBufferedMessages), "nng_socket_set_int");
    must(nng_pipe_notify(socket_, NNG_PIPE_EV_ADD_POST, count_pipe, this), "nng_pipe_notify");
    must(nng_listen(socket_, address_of(topic).c_str(), nullptr, 0), "nng_listen");
  }
  ~NngSender() override { nng_close(socket_); }

  void send(const void* head, std::size_t head_bytes) override {
    for (; awaited_ > 0; --awaited_) attached_.acquire();
    std::memcpy(message_.data(), head, head_bytes);
    while (const int result = nng_send(socket_, message_.data(), message_.size(), flags_))
      look_again(result, "nng_send");
  }

 private:
  static void count_pipe(nng_pipe, nng_pipe_ev, void* self) { static_cast<NngSender*>(self)->attached_.release(); }

  int flags_;
  std::uint32_t awaited_;
  std::vector<unsigned char> message_;
  std::counting_semaphore<> attached_{0};  // released by each receiver
  nng_socket socket_ = NNG_SOCKET_INITIALIZER;
};

class NngReceiver : public Receiver {
 public:
  NngReceiver(const std::string& topic, const Shape& shape) : flags_(flags_of(shape.wait)), bytes_(shape.bytes) {
    must(shape.receivers == 1 ? nng_pull0_open(&socket_) : nng_sub0_open(&socket_), "nng_open");
    if (shape.receivers > 1) must(nng_socket_set(socket_, NNG_OPT_SUB_SUBSCRIBE, "", 0), "nng_socket_set");
    if (shape.receivers > 1)  // PULL has no such buffer
      must(nng_socket_set_int(socket_, NNG_OPT_RECVBUF, 2 * kBufferedMessages), "nng_socket_set_int");
    must(nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0), "nng_socket_set_size");
    dial(address_of(topic));
  }
  ~NngReceiver() override { nng_close(socket_); }

  void receive(void* head, std::size_t head_bytes) override {
    nng_msg* message = nullptr;
    while (const int result = nng_recvmsg(socket_, &message, flags_)) look_again(result, "nng_recvmsg");
    require(nng_msg_len(message) == bytes_, "a message has the wrong size");
    std::memcpy(head, nng_msg_body(message), head_bytes);
    nng_msg_free(message);
  }

 private:
  void dial(const std::string& address) {
    while (const int result = nng_dial(socket_, address.c_str(), nullptr, 0)) {
      if (result != NNG_ECONNREFUSED && result != NNG_ENOENT) must(result, "nng_dial");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  int flags_;
  std::size_t bytes_;
  nng_socket socket_ = NNG_SOCKET_INITIALIZER;
};

class NngPeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<NngSender>(topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<NngReceiver>(topic, shape);
  }
};

}  // namespace

std::unique_ptr<Peer> make_nng() { return std::make_unique<NngPeer>(); }

}  // namespace holdfast::bench
