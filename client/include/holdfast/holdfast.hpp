/* SPDX-License-Identifier: MIT
 *
 * Holdfast for C++17 and later: the C ABI of holdfast.h with owners, results and types. Inline, and nothing more.
 *
 *   auto client = holdfast::Client::connect_or_throw();
 *   auto publisher = client.publisher_or_throw("camera/image");
 *   auto loan = publisher.loan_or_throw(1920 * 1080);
 *   render(loan.data(), loan.bytes());
 *   loan.publish_or_throw();
 *
 * Conditions (nothing there, full, lapped, ended, timed out) are Status values; failures are Errors, or Exceptions from the `_or_throw`
 * forms. Timeouts: zero looks, kForever waits. Threads: a Client may be used by any thread; a Publisher with its Loans, and a
 * Subscriber, each by one thread at a time; a View may be destroyed by any thread. Owners may be destroyed in any order. */
#ifndef HOLDFAST_HOLDFAST_HPP_
#define HOLDFAST_HOLDFAST_HPP_

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "holdfast/attributes.hpp"
#include "holdfast/holdfast.h"
#include "holdfast/result.hpp"
#include "holdfast/type.hpp"

namespace holdfast {
inline namespace v1 {

using Timeout = std::chrono::nanoseconds;
inline constexpr Timeout kLook{0};
inline constexpr Timeout kForever{-1};

enum class Status {
  kOk = HF_OK,
  kEmpty = HF_EMPTY,
  kFull = HF_FULL,
  kLapped = HF_LAPPED,
  kFinished = HF_FINISHED,
  kAborted = HF_ABORTED,
  kTimeout = HF_TIMEOUT,
};

/// The result of a C call: a condition, or the thread's last failure.
inline Result<Status> status(int result) {
  if (result < 0) return Error::last(result);
  return static_cast<Status>(result);
}

/// A sample being written. Move-only; dropped unpublished when it is destroyed. Used by its publisher's thread.
/// The memory stays valid as long as the Loan lives, even when its publisher is gone.
class Loan {
 public:
  Loan() = default;
  Loan(Loan&& other) noexcept : loan_(std::exchange(other.loan_, hf_loan{})) {}
  Loan& operator=(Loan&& other) noexcept {
    if (this != &other) {
      hf_loan_drop(&loan_);
      loan_ = std::exchange(other.loan_, hf_loan{});
    }
    return *this;
  }
  ~Loan() {
    if (loan_.publisher != nullptr) hf_loan_drop(&loan_);
  }

  /// bytes() bytes, aligned to 64 (to 4096 from a page up; up to 32 bytes: to 8). Inline payloads move with the Loan.
  void* data() { return hf_loan_data(&loan_); }
  std::uint64_t bytes() const { return loan_.bytes; }
  explicit operator bool() const { return loan_.publisher != nullptr; }

  /// A tag of yours that travels with the sample.
  void set_type(std::uint32_t type) { loan_.type = type; }

  /// Requires: room for them was asked for with the loan.
  Result<Status> set_attributes(const Attributes& attributes) {
    return status(hf_loan_set_attributes(&loan_, attributes.data(), attributes.bytes()));
  }

  /// kOk; kFull or kTimeout: not published, and the loan is as it was.
  Result<Status> publish(Timeout timeout = kForever) { return status(hf_loan_publish(&loan_, timeout.count())); }
  void publish_or_throw(Timeout timeout = kForever) {
    if (publish(timeout).or_throw() != Status::kOk) throw Exception({HF_E_EXHAUSTED, "no room before the deadline"});
  }

  hf_loan& c() { return loan_; }

 private:
  hf_loan loan_{};
};

/// A sample being read, or what happened instead of one. Move-only; gives the sample back when it is destroyed, on any
/// thread. Its memory stays as it is until then, whatever becomes of subscriber, publisher and broker.
class View {
 public:
  View() { clear(); }
  View(View&& other) noexcept : view_(other.view_) { other.clear(); }
  View& operator=(View&& other) noexcept {
    if (this != &other) {
      hf_view_release(&view_);
      view_ = other.view_;
      other.clear();
    }
    return *this;
  }
  ~View() {
    if (view_.holder != nullptr) hf_view_release(&view_);
  }

  void release() { hf_view_release(&view_); }

  const void* data() const { return hf_view_data(&view_); }
  std::uint64_t bytes() const { return view_.bytes; }
  /// The payload as a T. Requires: it is one (see Subscriber::take for typed topics), large enough, and aligned: samples of
  /// at most 32 bytes are aligned to 8, unless a TypedPublisher of a type that needs more has published them.
  template <class T>
  const T& as() const {
    static_assert(std::is_trivially_copyable_v<T>);
    return *static_cast<const T*>(data());
  }
  AttributesView attributes() const { return {view_.attributes, view_.attribute_bytes}; }
  std::uint32_t type() const { return view_.type; }
  std::uint64_t position() const { return view_.position; }  ///< in its publisher's lane
  std::uint64_t time_ns() const { return view_.time_ns; }  ///< CLOCK_MONOTONIC; 0 without a clock
  std::uint64_t missed() const { return view_.missed; }  ///< with Status::kLapped
  bool turned() const { return view_.turned != 0; }  ///< with Status::kLapped: stalled, drop-oldest from now on
  std::uint32_t publisher() const { return view_.publisher; }
  /// Differs where publisher() does not: two publishers of one client, or one opened again.
  std::uint32_t lane() const { return view_.lane; }

  hf_view& c() { return view_; }

 private:
  friend class Subscriber;
  void clear() {
    view_.holder = nullptr;
    view_.data = nullptr;
    view_.bytes = 0;
    view_.attributes = nullptr;
    view_.attribute_bytes = 0;
  }
  hf_view view_;  // the other members are set by every take
};

/// See hf_publisher_options: 0 and empty take what the topic has.
struct PublisherOptions {
  std::uint32_t ring_slots = 0;
  std::uint32_t chunks_max = 0;
  int clock = HF_CLOCK_UNSET;
  bool exclusive = false;
  int backing = HF_BACKING_UNSET;
  std::uint32_t depth = 0;
  Timeout linger{0};
  Timeout stall_timeout{0};
  std::uint64_t bytes_max = 0;
  const hf_type* type = nullptr;
  bool huge_pages = false;
};

/// Writes samples to a topic. One thread at a time.
class Publisher {
 public:
  /// A sample of `bytes` bytes with room for `attribute_bytes` of encoded attributes.
  Result<Loan> loan(std::uint64_t bytes, std::uint32_t attribute_bytes = 0, Timeout timeout = kForever) {
    Loan loan;
    const int result = hf_publisher_loan(publisher_.get(), bytes, attribute_bytes, timeout.count(), &loan.c());
    if (result == HF_TIMEOUT) return Error{HF_E_EXHAUSTED, "no memory for the loan before the deadline"};
    if (result != HF_OK) return Error::last(result);
    return loan;
  }
  Loan loan_or_throw(std::uint64_t bytes, std::uint32_t attribute_bytes = 0, Timeout timeout = kForever) {
    return loan(bytes, attribute_bytes, timeout).or_throw();
  }
  /// The same, with the attributes already in it.
  Result<Loan> loan(std::uint64_t bytes, const Attributes& attributes, Timeout timeout = kForever) {
    auto made = loan(bytes, attributes.bytes(), timeout);
    if (!made || attributes.bytes() == 0) return made;
    const auto set = made->set_attributes(attributes);
    if (!set) return set.error();
    return made;
  }
  Loan loan_or_throw(std::uint64_t bytes, const Attributes& attributes, Timeout timeout = kForever) {
    return loan(bytes, attributes, timeout).or_throw();
  }

  /// Copies and publishes. kOk, kFull, kTimeout.
  Result<Status> publish(const void* payload, std::uint64_t bytes, Timeout timeout = kForever) {
    return status(hf_publish(publisher_.get(), payload, bytes, timeout.count()));
  }
  /// The same for one value of a trivially copyable type.
  template <class T, class = std::enable_if_t<!std::is_pointer_v<T> && std::is_trivially_copyable_v<T>>>
  Result<Status> publish(const T& value, Timeout timeout = kForever) {
    return publish(&value, sizeof value, timeout);
  }
  /// Publishes `count` values of at most 32 bytes each, together.
  template <class T>
  Result<Status> publish_batch(const T* values, std::size_t count, Timeout timeout = kForever,
                               std::size_t* published = nullptr) {
    static_assert(sizeof(T) <= 32 && std::is_trivially_copyable_v<T>);
    return status(hf_publish_batch(publisher_.get(), values, sizeof(T), sizeof(T), count, timeout.count(), published));
  }

  std::int64_t subscriber_count() { return hf_publisher_subscriber_count(publisher_.get()); }
  Result<Status> wait_for_subscribers(std::int64_t count, Timeout timeout = kForever) {
    return status(hf_publisher_wait_for_subscribers(publisher_.get(), count, timeout.count()));
  }
  /// Until every lossless subscriber has taken everything.
  Result<Status> drain(Timeout timeout = kForever) {
    return status(hf_publisher_drain(publisher_.get(), timeout.count()));
  }
  std::uint64_t position() const { return hf_publisher_position(publisher_.get()); }
  void close() { publisher_.reset(); }

  hf_publisher* c() { return publisher_.get(); }

 private:
  friend class Client;
  struct Close {
    void operator()(hf_publisher* publisher) const { hf_publisher_close(publisher); }
  };
  explicit Publisher(hf_publisher* publisher) : publisher_(publisher) {}
  std::unique_ptr<hf_publisher, Close> publisher_;
};

/// See hf_subscriber_options.
struct SubscriberOptions {
  bool lossless = false;
  int start = HF_START_NEXT;
  const hf_type* type = nullptr;
  std::chrono::nanoseconds spin{0};  // as hf_subscriber_options::spin_ns
};

/// Reads the samples of a topic. One thread at a time.
class Subscriber {
 public:
  /// Takes the next sample into `view`, giving back what was in it. kOk, kEmpty, kLapped, kFinished, kAborted.
  Result<Status> take(View& view) {
    if (view.view_.holder != nullptr) view.release();
    return status(hf_take(subscriber_.get(), &view.view_));
  }
  /// The same, and waits: kTimeout in place of kEmpty.
  Result<Status> take(View& view, Timeout timeout) {
    if (view.view_.holder != nullptr) view.release();
    return status(hf_take_wait(subscriber_.get(), timeout.count(), &view.view_));
  }
  /// The next sample, waiting for it: lapped is skipped, an ended publisher or a deadline gives an empty View, which looks
  /// like a sample of no bytes: where these come, take() tells them apart.
  Result<View> next(Timeout timeout = kForever) {
    View view;
    while (true) {
      auto taken = take(view, timeout);
      if (!taken) return taken.error();
      if (*taken == Status::kOk) return view;
      if (*taken != Status::kLapped) return View();
    }
  }

  /// One descriptor for poll, epoll and event loops; take until kEmpty before you sleep on it.
  Result<int> fd() {
    const int fd = hf_fd(subscriber_.get());
    if (fd < 0) return Error::last(fd);
    return fd;
  }
  void close() { subscriber_.reset(); }

  hf_subscriber* c() { return subscriber_.get(); }

 private:
  friend class Client;
  struct Close {
    void operator()(hf_subscriber* subscriber) const { hf_subscriber_close(subscriber); }
  };
  explicit Subscriber(hf_subscriber* subscriber) : subscriber_(subscriber) {}
  std::unique_ptr<hf_subscriber, Close> subscriber_;
};

/// Publishes values of one type, checked when topics are opened.
template <class T>
class TypedPublisher {
 public:
  explicit TypedPublisher(Publisher publisher) : publisher_(std::move(publisher)) {}
  Result<Status> publish(const T& value, Timeout timeout = kForever) {
    if constexpr (kAttributeRoom == 0) {
      return publisher_.publish(&value, sizeof value, timeout);
    } else {
      auto made = loan(1, timeout);
      if (!made) return made.error();
      std::memcpy(made->data(), &value, sizeof value);
      return made->publish(timeout);
    }
  }
  /// A loan of `count` elements, value-initialised. HF_E_TOO_LARGE: more than 2^48 - 1 bytes.
  Result<Loan> loan(std::uint64_t count = 1, Timeout timeout = kForever) {
    if (count > ((std::uint64_t{1} << 48) - 1) / sizeof(T))
      return Error{HF_E_TOO_LARGE, "a loan of " + std::to_string(count) + " values of " + std::to_string(sizeof(T)) +
                                       " bytes; a payload has at most 2^48 - 1 bytes"};
    auto made = publisher_.loan(count * sizeof(T), kAttributeRoom, timeout);
    if (made)
      for (std::uint64_t i = 0; i < count; ++i) ::new (static_cast<T*>(made->data()) + i) T{};
    return made;
  }
  Publisher& untyped() { return publisher_; }

 private:
  // Inline payloads are aligned to 8 bytes, others to 64: one with room for attributes is never inline.
  static constexpr std::uint32_t kAttributeRoom = alignof(T) > 8 ? 1 : 0;

  Publisher publisher_;
};

/// Takes values of one type. A sample whose size is no multiple of T's is HF_E_CORRUPT.
template <class T>
class TypedSubscriber {
 public:
  explicit TypedSubscriber(Subscriber subscriber) : subscriber_(std::move(subscriber)) {}
  Result<Status> take(View& view, Timeout timeout = kLook) {
    auto taken = timeout == kLook ? subscriber_.take(view) : subscriber_.take(view, timeout);
    if (taken && *taken == Status::kOk && (view.bytes() == 0 || view.bytes() % sizeof(T) != 0))
      return Error{HF_E_CORRUPT, "a sample of " + std::to_string(view.bytes()) + " bytes is no value of its type"};
    return taken;
  }
  Subscriber& untyped() { return subscriber_; }

 private:
  Subscriber subscriber_;
};

/// See hf_client_options: empty takes the environment's and the defaults.
struct ClientOptions {
  std::string socket;
  std::string instance;
  std::string name;
  std::chrono::nanoseconds timeout{0};
};

/// A session with the broker. Any thread. Outlives the broker: see "Restarts" in holdfast.h.
class Client {
 public:
  static Result<Client> connect(const ClientOptions& options = {}) {
    hf_client_options c{};
    c.struct_size = sizeof c;
    c.socket = text(options.socket);
    c.instance = text(options.instance);
    c.name = text(options.name);
    c.timeout_ns = options.timeout.count();
    hf_client* client = nullptr;
    if (const int result = hf_client_open(&c, &client); result != HF_OK) return Error::last(result);
    return Client(client);
  }
  static Client connect_or_throw(const ClientOptions& options = {}) { return connect(options).or_throw(); }

  Result<Publisher> publisher(const std::string& topic, const PublisherOptions& options = {}) {
    hf_publisher_options c{};
    c.struct_size = sizeof c;
    c.ring_slots = options.ring_slots;
    c.chunks_max = options.chunks_max;
    c.clock = options.clock;
    c.exclusive = options.exclusive ? 1 : 0;
    c.backing = options.backing;
    c.depth = options.depth;
    c.linger_ns = options.linger.count();
    c.stall_timeout_ns = options.stall_timeout.count();
    c.bytes_max = options.bytes_max;
    c.type = options.type;
    c.huge_pages = options.huge_pages ? 1 : 0;
    hf_publisher* publisher = nullptr;
    if (const int result = hf_publisher_open(client_.get(), topic.c_str(), &c, &publisher); result != HF_OK)
      return Error::last(result);
    return Publisher(publisher);
  }
  Publisher publisher_or_throw(const std::string& topic, const PublisherOptions& options = {}) {
    return publisher(topic, options).or_throw();
  }
  template <class T>
  Result<TypedPublisher<T>> typed_publisher(const std::string& topic, PublisherOptions options = {}) {
    options.type = &type_of<T>();
    auto opened = publisher(topic, options);
    if (!opened) return opened.error();
    return TypedPublisher<T>(std::move(*opened));
  }

  Result<Subscriber> subscriber(const std::string& topic, const SubscriberOptions& options = {}) {
    hf_subscriber_options c{};
    c.struct_size = sizeof c;
    c.delivery = options.lossless ? HF_LOSSLESS : HF_DROP_OLDEST;
    c.start = options.start;
    c.type = options.type;
    c.spin_ns = static_cast<std::uint64_t>(options.spin.count());
    hf_subscriber* subscriber = nullptr;
    if (const int result = hf_subscriber_open(client_.get(), topic.c_str(), &c, &subscriber); result != HF_OK)
      return Error::last(result);
    return Subscriber(subscriber);
  }
  Subscriber subscriber_or_throw(const std::string& topic, const SubscriberOptions& options = {}) {
    return subscriber(topic, options).or_throw();
  }
  template <class T>
  Result<TypedSubscriber<T>> typed_subscriber(const std::string& topic, SubscriberOptions options = {}) {
    options.type = &type_of<T>();
    auto opened = subscriber(topic, options);
    if (!opened) return opened.error();
    return TypedSubscriber<T>(std::move(*opened));
  }

  /// See hf_client_ping().
  Result<Status> ping() { return status(hf_client_ping(client_.get())); }
  std::uint32_t session() const { return hf_client_session(client_.get()); }
  void close() { client_.reset(); }

  hf_client* c() { return client_.get(); }

 private:
  struct Close {
    void operator()(hf_client* client) const { hf_client_close(client); }
  };
  explicit Client(hf_client* client) : client_(client) {}
  static const char* text(const std::string& given) { return given.empty() ? nullptr : given.c_str(); }
  std::unique_ptr<hf_client, Close> client_;
};

/// Waits until one of the subscribers (of one client) has something to take: its index, or an empty result of
/// Status::kTimeout in `error().code` = HF_TIMEOUT.
inline Result<std::size_t> wait(const std::vector<Subscriber*>& subscribers, Timeout timeout = kForever) {
  std::vector<hf_subscriber*> handles;
  handles.reserve(subscribers.size());
  for (Subscriber* subscriber : subscribers) handles.push_back(subscriber->c());
  std::size_t ready = 0;
  const int result = hf_wait(handles.data(), handles.size(), timeout.count(), &ready);
  if (result == HF_TIMEOUT) return Error{HF_TIMEOUT, "nothing to take before the deadline"};
  if (result != HF_OK) return Error::last(result);
  return ready;
}

}  // namespace v1
}  // namespace holdfast

#endif /* HOLDFAST_HOLDFAST_HPP_ */
