// SPDX-License-Identifier: MIT
//
// The C ABI: checks arguments, keeps exceptions inside, and knows which handles belong to which client.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "client/include/holdfast/holdfast.h"
#include "client/src/failure.hpp"
#include "client/src/fork_guard.hpp"
#include "client/src/options.hpp"
#include "client/src/publisher.hpp"
#include "client/src/subscriber.hpp"
#include "client/src/version.hpp"
#include "client/src/waiting.hpp"
#include "proto/shm/attributes.hpp"

using namespace holdfast::client;
namespace shm = holdfast::shm;

struct hf_client {
  std::shared_ptr<Session> session;
  std::uint32_t forks = g_fork_count;
};

namespace {

// Which client each open handle belongs to, so that closing a client closes its handles. A forked child
// closes inherited handles, too: guarded by the mutex that is locked across fork(), and made when the library is loaded.
template <class Handle>
class Owners {
 public:
  void add(Handle* handle, const hf_client* client) {
    const std::lock_guard lock(fork_mutex());
    owners_.emplace(handle, client);
    try {
      handles_[client].insert(handle);
    } catch (...) {
      owners_.erase(handle);
      throw;
    }
  }
  void remove(Handle* handle) {
    const std::lock_guard lock(fork_mutex());
    const auto owner = owners_.find(handle);
    if (owner == owners_.end()) return;
    const auto of_client = handles_.find(owner->second);
    of_client->second.erase(handle);
    if (of_client->second.empty()) handles_.erase(of_client);
    owners_.erase(owner);
  }
  bool contains(Handle* handle) {
    const std::lock_guard lock(fork_mutex());
    return owners_.contains(handle);
  }
  // Those of one client, however many others there are.
  std::unordered_set<Handle*> take_all(const hf_client* client) {
    const std::lock_guard lock(fork_mutex());
    auto of_client = handles_.extract(client);
    if (of_client.empty()) return {};
    for (Handle* handle : of_client.mapped()) owners_.erase(handle);
    return std::move(of_client.mapped());
  }

 private:
  std::unordered_map<Handle*, const hf_client*> owners_;
  std::unordered_map<const hf_client*, std::unordered_set<Handle*>> handles_;
};

// Never destroyed: static objects may close handles at exit.
Owners<hf_publisher>& g_publishers = *new Owners<hf_publisher>;
Owners<hf_subscriber>& g_subscribers = *new Owners<hf_subscriber>;

int null_argument(const char* what) { return fail(HF_E_INVALID, std::string(what) + " is NULL"); }

int check_client(const hf_client* client) {
  if (client == nullptr) return null_argument("client");
  if (client->forks != g_fork_count)
    return fail(HF_E_FORKED, "this client belongs to the parent process; open one here");
  return HF_OK;
}

// A chunk that is lent keeps its publisher; an inline loan does not, and may have outlived it.
int check_loan(hf_loan& loan) {
  if (loan.publisher == nullptr) return fail(HF_E_CLOSED, "this loan is already published or dropped");
  if (loan.data != nullptr || g_publishers.contains(loan.publisher)) return HF_OK;
  loan.publisher = nullptr;
  return fail(HF_E_CLOSED, "the publisher of this loan is closed");
}

std::span<const std::uint8_t> bytes_of(const void* encoded, std::uint32_t bytes) {
  return {static_cast<const std::uint8_t*>(encoded), encoded == nullptr ? 0 : bytes};
}

int corrupt_attributes(std::uint32_t offset) {
  return fail(HF_E_CORRUPT, "the attributes make no sense at byte " + std::to_string(offset));
}

void fill(const shm::Attribute& from, hf_attribute& to) {
  to.kind = static_cast<std::int32_t>(from.kind);
  to.key_bytes = static_cast<std::uint32_t>(from.key.size());
  to.key = from.key.data();
  to.value = from.value.data();
  to.value_bytes = static_cast<std::uint32_t>(from.value.size());
  to.count = from.count;
}

// ---- the long ways of the data path, out of the way of the short ones: those have no frame of their own --------------

[[gnu::noinline]] int loan_long(hf_publisher* publisher, std::uint64_t bytes, std::uint32_t attribute_bytes,
                                std::int64_t timeout_ns, hf_loan* loan) {
  if (publisher == nullptr || loan == nullptr) return null_argument(publisher == nullptr ? "publisher" : "loan");
  return guarded([&] { return publisher->loan(bytes, attribute_bytes, timeout_ns, *loan); });
}

[[gnu::noinline]] int publish_loan_long(hf_loan* loan, std::int64_t timeout_ns) {
  if (loan == nullptr) return null_argument("loan");
  if (const int result = check_loan(*loan); result != HF_OK) return result;
  return guarded([&] { return loan->publisher->publish_loan(*loan, timeout_ns); });
}

[[gnu::noinline]] int publish_long(hf_publisher* publisher, const void* payload, std::uint64_t bytes,
                                   std::int64_t timeout_ns) {
  if (publisher == nullptr || (payload == nullptr && bytes != 0))
    return null_argument(publisher == nullptr ? "publisher" : "payload");
  return guarded([&] { return publisher->publish_copy(payload, bytes, nullptr, 0, 0, timeout_ns); });
}

[[gnu::noinline]] int ring(hf_publisher* publisher) {
  return guarded([&] {
    publisher->ring_sleepers();
    return HF_OK;
  });
}

[[gnu::noinline]] int take_long(hf_subscriber* subscriber, hf_view* view) {
  if (subscriber == nullptr || view == nullptr) return null_argument(subscriber == nullptr ? "subscriber" : "view");
  return guarded([&] { return subscriber->take(*view); });
}

// Looks by taking for as long as the subscriber spins, then sleeps.
[[gnu::noinline]] int take_waiting(hf_subscriber* subscriber, std::int64_t timeout_ns, hf_view* view) {
  constexpr int kLooks = 64;  // between two looks at the clock
  const Deadline deadline(timeout_ns);
  if (subscriber->spin_ns() > 0) {
    const Deadline spinning(static_cast<std::int64_t>(std::min<std::uint64_t>(subscriber->spin_ns(), INT64_MAX)));
    do {
      for (int i = 0; i < kLooks; ++i) {
        if (const int result = hf_take(subscriber, view); result != HF_EMPTY) return result;
        cpu_pause();
      }
    } while (!spinning.expired() && !deadline.expired());
  }
  return guarded([&] {
    while (true) {
      std::size_t ready = 0;
      const int waited = wait_for_any(&subscriber, 1, deadline.left_ns(), ready, true);
      if (waited != HF_OK) return waited;
      const int result = subscriber->take(*view);
      if (result != HF_EMPTY) return result;
    }
  });
}

[[gnu::noinline]] int made_room(LaneView* lane) {
  return guarded([&] {
    lane->made_room();
    return HF_OK;
  });
}

[[gnu::noinline]] int take_chunk(hf_subscriber* subscriber, LaneView& lane, const shm::Slot& slot, std::uint64_t size,
                                 hf_view* view) {
  if (lane.held() >= lane.held_max() || !lane.reader().take_chunk(slot, size, [&](const shm::Taken& taken) {
        fill_chunk_view(lane, taken, *view);
      })) [[unlikely]]
    return take_long(subscriber, view);
  return lane.writer_waits() ? made_room(&lane) : HF_OK;
}

}  // namespace

extern "C" {

const char* hf_result_name(int result) {
  switch (result) {
#define HOLDFAST_NAME(code) \
  case code:                \
    return #code
    HOLDFAST_NAME(HF_OK);
    HOLDFAST_NAME(HF_EMPTY);
    HOLDFAST_NAME(HF_FULL);
    HOLDFAST_NAME(HF_LAPPED);
    HOLDFAST_NAME(HF_FINISHED);
    HOLDFAST_NAME(HF_ABORTED);
    HOLDFAST_NAME(HF_TIMEOUT);
    HOLDFAST_NAME(HF_E_INVALID);
    HOLDFAST_NAME(HF_E_NO_BROKER);
    HOLDFAST_NAME(HF_E_DENIED);
    HOLDFAST_NAME(HF_E_QUOTA);
    HOLDFAST_NAME(HF_E_NO_MEMORY);
    HOLDFAST_NAME(HF_E_BUSY);
    HOLDFAST_NAME(HF_E_NOT_FOUND);
    HOLDFAST_NAME(HF_E_EXISTS);
    HOLDFAST_NAME(HF_E_MISMATCH);
    HOLDFAST_NAME(HF_E_VERSION);
    HOLDFAST_NAME(HF_E_CORRUPT);
    HOLDFAST_NAME(HF_E_FORKED);
    HOLDFAST_NAME(HF_E_CLOSED);
    HOLDFAST_NAME(HF_E_EXHAUSTED);
    HOLDFAST_NAME(HF_E_TOO_LARGE);
    HOLDFAST_NAME(HF_E_PROTOCOL);
    HOLDFAST_NAME(HF_E_SYSTEM);
#undef HOLDFAST_NAME
    default:
      return "HF_UNKNOWN";
  }
}

const char* hf_last_error(void) { return last_failure(); }

const char* hf_version(void) { return kVersion; }

// ---- client -------------------------------------------------------------------------------------------------------

int hf_client_open(const hf_client_options* options, hf_client** client) {
  return guarded([&] {
    if (client == nullptr) return null_argument("client");
    *client = nullptr;
    hf_client_options copied;
    if (const int result = copy_options(options, "hf_client_options", copied); result != HF_OK) return result;
    auto opened = std::make_unique<hf_client>();
    if (const int result = Session::open(copied, opened->session); result != HF_OK) return result;
    *client = opened.release();
    return HF_OK;
  });
}

void hf_client_close(hf_client* client) {
  if (client == nullptr) return;
  (void)guarded([&] {
    if (client->forks == g_fork_count) {
      for (hf_publisher* publisher : g_publishers.take_all(client)) publisher->close(false);
      for (hf_subscriber* subscriber : g_subscribers.take_all(client)) subscriber->close(false);
    }
    delete client;
    return HF_OK;
  });
}

uint32_t hf_client_session(const hf_client* client) { return client != nullptr ? client->session->id() : 0; }

int hf_client_ping(hf_client* client) {
  return guarded([&] {
    if (const int result = check_client(client); result != HF_OK) return result;
    Reply reply;
    return client->session->request("ping", nlohmann::json::object(), reply);
  });
}

// ---- publisher ----------------------------------------------------------------------------------------------------

int hf_publisher_open(hf_client* client, const char* topic, const hf_publisher_options* options,
                      hf_publisher** publisher) {
  return guarded([&] {
    if (publisher == nullptr || topic == nullptr) return null_argument(publisher == nullptr ? "publisher" : "topic");
    *publisher = nullptr;
    if (const int result = check_client(client); result != HF_OK) return result;
    hf_publisher_options copied;
    if (const int result = copy_options(options, "hf_publisher_options", copied); result != HF_OK) return result;
    const int result = hf_publisher::open(client->session, topic, copied, publisher);
    if (result == HF_OK) g_publishers.add(*publisher, client);
    return result;
  });
}

void hf_publisher_close(hf_publisher* publisher) {
  if (publisher == nullptr) return;
  (void)guarded([&] {
    g_publishers.remove(publisher);
    publisher->close(true);
    return HF_OK;
  });
}

int hf_publisher_loan(hf_publisher* publisher, uint64_t bytes, uint32_t attribute_bytes, int64_t timeout_ns,
                      hf_loan* loan) {
  if (publisher != nullptr && loan != nullptr && publisher->loan_quick(bytes, attribute_bytes, *loan)) [[likely]]
    return HF_OK;
  return loan_long(publisher, bytes, attribute_bytes, timeout_ns, loan);
}

int hf_loan_set_attributes(hf_loan* loan, const void* encoded, uint32_t bytes) {
  if (loan == nullptr || (encoded == nullptr && bytes != 0)) return null_argument(loan == nullptr ? "loan" : "encoded");
  if (const int result = check_loan(*loan); result != HF_OK) return result;
  return guarded([&] { return loan->publisher->set_attributes(*loan, encoded, bytes); });
}

int hf_loan_publish(hf_loan* loan, int64_t timeout_ns) {
  hf_publisher* publisher = loan != nullptr ? loan->publisher : nullptr;
  if (publisher == nullptr || loan->data == nullptr || !publisher->quick() || !publisher->good(*loan)) [[unlikely]]
    return publish_loan_long(loan, timeout_ns);
  return publisher->publish_good(*loan) ? ring(publisher) : HF_OK;
}

int hf_loan_publish_batch(hf_loan* loans, size_t count, int64_t timeout_ns, size_t* published) {
  if (published != nullptr) *published = 0;
  if (loans == nullptr) [[unlikely]]
    return null_argument("loans");
  if (count == 0) return HF_OK;
  if (const int result = check_loan(loans[0]); result != HF_OK) return result;
  hf_publisher* publisher = loans[0].publisher;
  std::size_t done = 0;
  const int result = guarded([&] { return publisher->publish(loans, count, timeout_ns, done); });
  if (published != nullptr) *published = done;
  return result;
}

void hf_loan_drop(hf_loan* loan) {
  if (loan == nullptr || loan->publisher == nullptr) return;
  if (loan->data == nullptr) {  // nothing was lent
    loan->publisher = nullptr;
    return;
  }
  (void)guarded([&] {
    loan->publisher->drop(*loan);
    return HF_OK;
  });
}

int hf_publish(hf_publisher* publisher, const void* payload, uint64_t bytes, int64_t timeout_ns) {
  if (publisher == nullptr || payload == nullptr || bytes != shm::kInlineBytesMax || !publisher->quick()) [[unlikely]]
    return publish_long(publisher, payload, bytes, timeout_ns);
  return publisher->publish_quick(payload) ? ring(publisher) : HF_OK;
}

int hf_publish_with(hf_publisher* publisher, const void* payload, uint64_t bytes, const void* attributes,
                    uint32_t attribute_bytes, uint32_t type, int64_t timeout_ns) {
  if (publisher == nullptr || (payload == nullptr && bytes != 0) || (attributes == nullptr && attribute_bytes != 0))
    return null_argument(publisher == nullptr               ? "publisher"
                         : payload == nullptr && bytes != 0 ? "payload"
                                                            : "attributes");
  return guarded(
      [&] { return publisher->publish_copy(payload, bytes, attributes, attribute_bytes, type, timeout_ns); });
}

int hf_publish_batch(hf_publisher* publisher, const void* payloads, uint64_t bytes, size_t stride, size_t count,
                     int64_t timeout_ns, size_t* published) {
  if (published != nullptr) *published = 0;
  if (publisher == nullptr || (payloads == nullptr && bytes != 0 && count != 0))
    return null_argument(publisher == nullptr ? "publisher" : "payloads");
  if (bytes > shm::kInlineBytesMax)
    return fail(HF_E_TOO_LARGE, "a batch takes samples of at most 32 bytes, not " + std::to_string(bytes) +
                                    "; publish loans with hf_loan_publish_batch()");
  std::size_t done = 0;
  const int result = guarded([&] {
    return publisher->publish_inline_batch(static_cast<const std::uint8_t*>(payloads), bytes, stride, count, timeout_ns,
                                           done);
  });
  if (published != nullptr) *published = done;
  return result;
}

int64_t hf_publisher_subscriber_count(hf_publisher* publisher) {
  if (publisher == nullptr) return null_argument("publisher");
  if (publisher->unusable()) return publisher->why_unusable();
  return publisher->subscriber_count();
}

int hf_publisher_wait_for_subscribers(hf_publisher* publisher, int64_t count, int64_t timeout_ns) {
  if (publisher == nullptr) return null_argument("publisher");
  return guarded([&] { return publisher->wait_for_subscribers(count, timeout_ns); });
}

int hf_publisher_drain(hf_publisher* publisher, int64_t timeout_ns) {
  if (publisher == nullptr) return null_argument("publisher");
  return guarded([&] { return publisher->drain(timeout_ns); });
}

uint64_t hf_publisher_position(const hf_publisher* publisher) {
  return publisher == nullptr ? 0 : publisher->position();
}

// ---- subscriber ---------------------------------------------------------------------------------------------------

int hf_subscriber_open(hf_client* client, const char* topic, const hf_subscriber_options* options,
                       hf_subscriber** subscriber) {
  return guarded([&] {
    if (subscriber == nullptr || topic == nullptr) return null_argument(subscriber == nullptr ? "subscriber" : "topic");
    *subscriber = nullptr;
    if (const int result = check_client(client); result != HF_OK) return result;
    hf_subscriber_options copied;
    if (const int result = copy_options(options, "hf_subscriber_options", copied); result != HF_OK) return result;
    const int result = hf_subscriber::open(client->session, topic, copied, subscriber);
    if (result == HF_OK) g_subscribers.add(*subscriber, client);
    return result;
  });
}

void hf_subscriber_close(hf_subscriber* subscriber) {
  if (subscriber == nullptr) return;
  (void)guarded([&] {
    g_subscribers.remove(subscriber);
    subscriber->close(true);
    return HF_OK;
  });
}

int hf_take(hf_subscriber* subscriber, hf_view* view) {
  LaneView* const lane = subscriber != nullptr && view != nullptr ? subscriber->quick_lane() : nullptr;
  if (lane == nullptr) [[unlikely]]
    return take_long(subscriber, view);
  LaneView::Reader& reader = lane->reader();
  std::uint64_t size = 0;
  const shm::Slot* const slot = reader.complete_slot(size);
  if (slot == nullptr) {
    if (!reader.nothing_yet()) return take_long(subscriber, view);
    view->holder = nullptr;
    return HF_EMPTY;
  }
  if ((size & shm::kFlagInline) == 0) return take_chunk(subscriber, *lane, *slot, size, view);
  if (!reader.take_inline(*slot, size, [&](const shm::Taken& taken) { fill_inline_view(*lane, taken, *view); }))
      [[unlikely]]
    return take_long(subscriber, view);
  return lane->writer_waits() ? made_room(lane) : HF_OK;
}

int hf_take_wait(hf_subscriber* subscriber, int64_t timeout_ns, hf_view* view) {
  const int result = hf_take(subscriber, view);
  if (result != HF_EMPTY) return result;
  return timeout_ns == 0 ? HF_TIMEOUT : take_waiting(subscriber, timeout_ns, view);
}

int hf_take_batch(hf_subscriber* subscriber, hf_view* views, size_t count, size_t* taken) {
  if (taken != nullptr) *taken = 0;
  if (subscriber == nullptr || views == nullptr) [[unlikely]]
    return null_argument(subscriber == nullptr ? "subscriber" : "views");
  std::size_t done = 0;
  const int result = guarded([&] { return subscriber->take_batch(views, count, done); });
  if (taken != nullptr) *taken = done;
  return result;
}

void hf_view_release(hf_view* view) {
  if (view == nullptr || view->holder == nullptr) return;
  auto* lane = static_cast<LaneView*>(view->holder);
  view->holder = nullptr;
  view->data = nullptr;
  view->attributes = nullptr;
  if (lane->inherited()) return;
  (void)guarded([&] {
    lane->release(view->chunk);
    return HF_OK;
  });
}

void hf_view_release_batch(hf_view* views, size_t count) {
  for (std::size_t i = 0; views != nullptr && i < count; ++i) hf_view_release(&views[i]);
}

int hf_wait(hf_subscriber* const* subscribers, size_t count, int64_t timeout_ns, size_t* ready) {
  if (subscribers == nullptr) return null_argument("subscribers");
  std::size_t index = 0;
  const int result = guarded([&] { return wait_for_any(subscribers, count, timeout_ns, index); });
  if (ready != nullptr) *ready = index;
  return result;
}

int hf_fd(hf_subscriber* subscriber) {
  if (subscriber == nullptr) return null_argument("subscriber");
  return guarded([&] { return subscriber->fd(); });
}

// ---- attributes ---------------------------------------------------------------------------------------------------

int hf_attributes_add(void* buffer, uint32_t capacity, uint32_t* bytes, int32_t kind, const char* key,
                      const void* value, uint32_t value_bytes) {
  if (buffer == nullptr || bytes == nullptr || key == nullptr || (value == nullptr && value_bytes != 0))
    return null_argument("buffer, bytes, key or value");
  const std::size_t key_bytes = std::strlen(key);
  if (key_bytes == 0 || key_bytes > 255)
    return fail(HF_E_INVALID, "an attribute's key has " + std::to_string(key_bytes) + " bytes; 1 to 255 are allowed");
  const std::uint64_t need = shm::attribute_bytes(key_bytes, value_bytes);
  if (*bytes > capacity || capacity - *bytes < need)
    return fail(HF_E_TOO_LARGE, "attribute " + std::string(key) + " takes " + std::to_string(need) + " bytes, " +
                                    std::to_string(capacity - std::min(capacity, *bytes)) + " are left");
  if (kind <= 0 || kind > 255 ||
      !shm::encode_attribute(static_cast<std::uint8_t*>(buffer) + *bytes, static_cast<shm::AttributeKind>(kind), key,
                             bytes_of(value, value_bytes)))
    return fail(HF_E_INVALID, "attribute " + std::string(key) + ": " + std::to_string(value_bytes) +
                                  " bytes are no value of kind " + std::to_string(kind));
  *bytes += static_cast<std::uint32_t>(need);
  return HF_OK;
}

int hf_attributes_next(const void* encoded, uint32_t bytes, uint32_t* offset, hf_attribute* attribute) {
  if (offset == nullptr || attribute == nullptr) return null_argument("offset or attribute");
  shm::Attribute decoded{};
  switch (shm::next_attribute(bytes_of(encoded, bytes), *offset, decoded)) {
    case shm::AttributeResult::kOk:
      fill(decoded, *attribute);
      return HF_OK;
    case shm::AttributeResult::kEnd:
      return HF_EMPTY;
    case shm::AttributeResult::kCorrupt:
      break;
  }
  return corrupt_attributes(*offset);
}

int hf_attributes_find(const void* encoded, uint32_t bytes, const char* key, hf_attribute* attribute) {
  if (key == nullptr || attribute == nullptr) return null_argument("key or attribute");
  std::uint32_t offset = 0;
  shm::Attribute decoded{};
  shm::AttributeResult result{};
  while ((result = shm::next_attribute(bytes_of(encoded, bytes), offset, decoded)) == shm::AttributeResult::kOk) {
    if (decoded.key != key) continue;
    fill(decoded, *attribute);
    return HF_OK;
  }
  if (result == shm::AttributeResult::kCorrupt) return corrupt_attributes(offset);
  return fail(HF_E_NOT_FOUND, "no attribute is named " + std::string(key));
}

}  // extern "C"
