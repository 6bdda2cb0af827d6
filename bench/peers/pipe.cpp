// SPDX-License-Identifier: MIT
//
// Named pipes: one for each receiver of a topic.
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/peers/byte_stream.hpp"
#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

// Opened for both directions: so opening waits for nobody.
Descriptor open_pipe(const std::string& topic, std::uint32_t index, Wait wait) {
  const std::string path = runtime_folder() + "/" + flat(topic) + ".pipe" + std::to_string(index);
  if (mkfifo(path.c_str(), 0600) != 0 && errno != EEXIST) call_failed("mkfifo");
  Descriptor opened(open(path.c_str(), O_RDWR | O_CLOEXEC | (wait == Wait::kSpin ? O_NONBLOCK : 0)));
  if (opened.get() < 0) call_failed("open");
  return opened;
}

class PipePeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    std::vector<Descriptor> ends;
    for (std::uint32_t i = 0; i < shape.receivers; ++i) ends.push_back(open_pipe(topic, i, shape.wait));
    return std::make_unique<StreamSender>(shape.bytes, std::move(ends));
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    const std::uint32_t index = shape.receivers == 1 ? 0 : next_index_++;
    return std::make_unique<StreamReceiver>(shape.bytes, open_pipe(topic, index, shape.wait));
  }

 private:
  std::uint32_t next_index_ = 0;
};

}  // namespace

std::unique_ptr<Peer> make_pipe() { return std::make_unique<PipePeer>(); }

}  // namespace holdfast::bench
