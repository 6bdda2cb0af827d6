// SPDX-License-Identifier: MIT
//
// Wrong arguments: each is a failure whose sentence names the thing, and nothing is used up by it. And wrong requests on the
// control socket, as far as they concern what clients share.
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"

namespace holdfast::integration {
namespace {

// A call that must fail with `code` and a sentence that contains `says`.
struct Wrong {
  const char* what;
  int code;
  const char* says;
  std::function<int()> call;
};

void expect_refused(const PrivateBroker& broker, const std::vector<Wrong>& wrongs) {
  const nlohmann::json before = resources(broker);
  for (const Wrong& wrong : wrongs) {
    EXPECT_EQ(hf_result_name(wrong.call()), std::string(hf_result_name(wrong.code))) << wrong.what;
    EXPECT_NE(std::string(hf_last_error()).find(wrong.says), std::string::npos)
        << wrong.what << ": " << hf_last_error();
  }
  EXPECT_EQ(resources(broker), before);
}

class BadInput : public ::testing::Test {
 protected:
  BadInput()
      : client_(broker_.client()),
        publisher_(client_.publisher_or_throw("good")),
        subscriber_(client_.subscriber_or_throw("good")) {}

  int open_publisher(const char* topic, const std::function<void(hf_publisher_options&)>& set = {}) {
    hf_publisher_options options{};
    options.struct_size = sizeof options;
    if (set) set(options);
    hf_publisher* publisher = nullptr;
    const int result = hf_publisher_open(client_.c(), topic, &options, &publisher);
    EXPECT_EQ(publisher == nullptr, result != HF_OK);
    hf_publisher_close(publisher);
    return result;
  }

  int open_subscriber(const char* topic, const std::function<void(hf_subscriber_options&)>& set = {}) {
    hf_subscriber_options options{};
    options.struct_size = sizeof options;
    if (set) set(options);
    hf_subscriber* subscriber = nullptr;
    const int result = hf_subscriber_open(client_.c(), topic, &options, &subscriber);
    EXPECT_EQ(subscriber == nullptr, result != HF_OK);
    hf_subscriber_close(subscriber);
    return result;
  }

  PrivateBroker broker_;
  Client client_;
  Publisher publisher_;
  Subscriber subscriber_;
};

TEST_F(BadInput, NullArgumentsAreNamed) {
  hf_publisher* publisher = nullptr;
  hf_subscriber* subscriber = nullptr;
  hf_loan loan;
  hf_view view;
  std::size_t taken = 0;
  expect_refused(
      broker_,
      {
          {"client", HF_E_INVALID, "client", [&] { return hf_client_open(nullptr, nullptr); }},
          {"ping", HF_E_INVALID, "client", [&] { return hf_client_ping(nullptr); }},
          {"publisher of no client", HF_E_INVALID, "client",
           [&] { return hf_publisher_open(nullptr, "x", nullptr, &publisher); }},
          {"publisher without topic", HF_E_INVALID, "topic",
           [&] { return hf_publisher_open(client_.c(), nullptr, nullptr, &publisher); }},
          {"publisher without place", HF_E_INVALID, "publisher",
           [&] { return hf_publisher_open(client_.c(), "x", nullptr, nullptr); }},
          {"subscriber of no client", HF_E_INVALID, "client",
           [&] { return hf_subscriber_open(nullptr, "x", nullptr, &subscriber); }},
          {"subscriber without topic", HF_E_INVALID, "topic",
           [&] { return hf_subscriber_open(client_.c(), nullptr, nullptr, &subscriber); }},
          {"subscriber without place", HF_E_INVALID, "subscriber",
           [&] { return hf_subscriber_open(client_.c(), "x", nullptr, nullptr); }},
          {"loan of no publisher", HF_E_INVALID, "publisher",
           [&] { return hf_publisher_loan(nullptr, 1, 0, 0, &loan); }},
          {"loan without place", HF_E_INVALID, "loan",
           [&] { return hf_publisher_loan(publisher_.c(), 1, 0, 0, nullptr); }},
          {"publish nothing", HF_E_INVALID, "payload", [&] { return hf_publish(publisher_.c(), nullptr, 1, 0); }},
          {"publish by nobody", HF_E_INVALID, "publisher", [&] { return hf_publish(nullptr, "x", 1, 0); }},
          {"attributes", HF_E_INVALID, "attributes",
           [&] { return hf_publish_with(publisher_.c(), "x", 1, nullptr, 8, 0, 0); }},
          {"batch", HF_E_INVALID, "payloads",
           [&] { return hf_publish_batch(publisher_.c(), nullptr, 8, 8, 3, 0, nullptr); }},
          {"no loans", HF_E_INVALID, "loans", [&] { return hf_loan_publish_batch(nullptr, 3, 0, nullptr); }},
          {"take by nobody", HF_E_INVALID, "subscriber", [&] { return hf_take(nullptr, &view); }},
          {"take into nothing", HF_E_INVALID, "view", [&] { return hf_take(subscriber_.c(), nullptr); }},
          {"wait into nothing", HF_E_INVALID, "view", [&] { return hf_take_wait(subscriber_.c(), 0, nullptr); }},
          {"batch into nothing", HF_E_INVALID, "views",
           [&] { return hf_take_batch(subscriber_.c(), nullptr, 4, &taken); }},
          {"batch of nothing", HF_E_INVALID, "0", [&] { return hf_take_batch(subscriber_.c(), &view, 0, &taken); }},
          {"descriptor of nobody", HF_E_INVALID, "subscriber", [&] { return hf_fd(nullptr); }},
          {"count", HF_E_INVALID, "publisher",
           [&] { return static_cast<int>(hf_publisher_subscriber_count(nullptr)); }},
          {"drain", HF_E_INVALID, "publisher", [&] { return hf_publisher_drain(nullptr, 0); }},
      });
  // These take nothing for an answer.
  hf_client_close(nullptr);
  hf_publisher_close(nullptr);
  hf_subscriber_close(nullptr);
  hf_loan_drop(nullptr);
  hf_view_release(nullptr);
  hf_view_release_batch(nullptr, 3);
  EXPECT_EQ(publisher_.position(), 0u);
}

TEST_F(BadInput, NamesOfTopics) {
  const std::string longest(255, 'n');
  EXPECT_EQ(open_publisher(longest.c_str()), HF_OK);
  EXPECT_EQ(open_publisher("A-z_0.9/b/c"), HF_OK);
  ASSERT_TRUE(eventually([&] { return broker_.stats().at("publishers") == 1; }));
  std::vector<std::string> names = {"",
                                    "/",
                                    "/a",
                                    "a/",
                                    "a//b",
                                    "a b",
                                    "a\nb",
                                    "a*",
                                    "$x",
                                    "ä",
                                    "a\x01"
                                    "b",
                                    "a:b",
                                    "a\\b"};
  names.push_back(std::string(256, 'n'));
  names.push_back(std::string(70'000, 'n'));
  const nlohmann::json before = resources(broker_);
  for (const std::string& name : names) {
    for (const int result : {open_publisher(name.c_str()), open_subscriber(name.c_str())})
      EXPECT_TRUE(result == HF_E_INVALID || (name.size() > 60'000 && result == HF_E_TOO_LARGE))
          << "\"" << name.substr(0, 20) << "\": " << hf_result_name(result);
    EXPECT_FALSE(std::string(hf_last_error()).empty());
  }
  EXPECT_EQ(resources(broker_), before);
  EXPECT_TRUE(client_.ping()) << "the connection is as good as before";
}

TEST_F(BadInput, OptionsOfPublishers) {
  const auto with = [&](auto member, auto value) {
    return [this, member, value] { return open_publisher("new", [&](hf_publisher_options& o) { o.*member = value; }); };
  };
  using Options = hf_publisher_options;
  static const hf_type no_name{"", 1, 1, 0};
  static const hf_type odd_align{"t", 8, 3, 0};
  expect_refused(broker_,
                 {
                     {"ring of 7", HF_E_INVALID, "ring", with(&Options::ring_slots, 7u)},
                     {"ring of 12", HF_E_INVALID, "ring", with(&Options::ring_slots, 12u)},
                     {"ring of 2^21", HF_E_INVALID, "ring", with(&Options::ring_slots, 1u << 21)},
                     {"chunks 65", HF_E_INVALID, "chunks_max", with(&Options::chunks_max, 65u)},
                     {"chunks 2^17", HF_E_INVALID, "chunks_max", with(&Options::chunks_max, 1u << 17)},
                     {"clock 9", HF_E_INVALID, "clock", with(&Options::clock, 9)},
                     {"clock -1", HF_E_INVALID, "clock", with(&Options::clock, -1)},
                     {"backing 3", HF_E_INVALID, "backing", with(&Options::backing, 3)},
                     {"exclusive 5", HF_E_INVALID, "exclusive", with(&Options::exclusive, 5)},
                     {"huge_pages 2", HF_E_INVALID, "huge_pages", with(&Options::huge_pages, 2)},
                     {"depth 49 of 64", HF_E_INVALID, "depth", with(&Options::depth, 49u)},
                     {"bytes_max 10", HF_E_INVALID, "bytes_max", with(&Options::bytes_max, std::uint64_t{10})},
                     {"type without a name", HF_E_INVALID, "type", with(&Options::type, &no_name)},
                     {"type aligned to 3", HF_E_INVALID, "align", with(&Options::type, &odd_align)},
                     {"struct_size 0", HF_E_INVALID, "struct_size", with(&Options::struct_size, std::size_t{0})},
                     {"struct_size 3", HF_E_INVALID, "struct_size", with(&Options::struct_size, std::size_t{3})},
                     {"struct_size 5000", HF_E_INVALID, "struct_size", with(&Options::struct_size, std::size_t{5000})},
                 });
}

TEST_F(BadInput, OptionsOfSubscribersAndClients) {
  const auto subscriber_with = [&](auto member, auto value) {
    return
        [this, member, value] { return open_subscriber("new", [&](hf_subscriber_options& o) { o.*member = value; }); };
  };
  const auto client_with = [](auto set) {
    return [set] {
      hf_client_options options{};
      options.struct_size = sizeof options;
      set(options);
      hf_client* client = nullptr;
      const int result = hf_client_open(&options, &client);
      EXPECT_EQ(client, nullptr);
      return result;
    };
  };
  const std::string own_socket = broker_.socket();
  static const std::string long_path = "/" + std::string(200, 'p');
  using Options = hf_subscriber_options;
  expect_refused(
      broker_,
      {
          {"delivery 2", HF_E_INVALID, "delivery", subscriber_with(&Options::delivery, 2)},
          {"delivery -1", HF_E_INVALID, "delivery", subscriber_with(&Options::delivery, -1)},
          {"start 3", HF_E_INVALID, "start", subscriber_with(&Options::start, 3)},
          {"struct_size 1", HF_E_INVALID, "struct_size", subscriber_with(&Options::struct_size, std::size_t{1})},
          {"client struct_size", HF_E_INVALID, "struct_size",
           client_with([](hf_client_options& o) { o.struct_size = 4; })},
          {"no such socket", HF_E_NO_BROKER, "/nowhere/x.sock",
           client_with([](hf_client_options& o) { o.socket = "/nowhere/x.sock"; })},
          {"long socket", HF_E_NO_BROKER, "longer",
           client_with([](hf_client_options& o) { o.socket = long_path.c_str(); })},
          {"no such instance", HF_E_NO_BROKER, "no-such",
           client_with([](hf_client_options& o) { o.instance = "no-such"; })},
          {"no instance's name", HF_E_INVALID, "1 to 32",
           client_with([](hf_client_options& o) { o.instance = "../other"; })},
          {"another instance's socket", HF_E_INVALID, "not of other", client_with([&](hf_client_options& o) {
             o.socket = own_socket.c_str();
             o.instance = "other";
           })},
      });
}

TEST_F(BadInput, StructsOfOtherVersions) {
  // An older caller: members that it does not have are as if they were 0.
  hf_publisher_options older{};
  older.struct_size = offsetof(hf_publisher_options, clock);
  older.ring_slots = 32;
  older.clock = 99;
  hf_publisher* publisher = nullptr;
  ASSERT_EQ(hf_publisher_open(client_.c(), "older", &older, &publisher), HF_OK) << hf_last_error();
  EXPECT_EQ(broker_.topic("older").at("ring"), 32);
  hf_publisher_close(publisher);
  // A newer one: what we do not know must not be asked for.
  struct {
    hf_publisher_options known;
    std::uint64_t unknown;
  } newer{};
  newer.known.struct_size = sizeof newer;
  ASSERT_EQ(hf_publisher_open(client_.c(), "newer", &newer.known, &publisher), HF_OK) << hf_last_error();
  hf_publisher_close(publisher);
  newer.unknown = 1;
  EXPECT_EQ(hf_publisher_open(client_.c(), "newer", &newer.known, &publisher), HF_E_INVALID);
  EXPECT_NE(std::string(hf_last_error()).find("struct_size"), std::string::npos);
}

TEST_F(BadInput, LoansAndBatches) {
  hf_loan loan;
  ASSERT_EQ(hf_publisher_loan(publisher_.c(), 100, 8, 0, &loan), HF_OK);
  hf_loan none{};
  const std::string attributes(200, 'a');
  std::size_t published = 9;
  expect_refused(
      broker_,
      {
          {"more attributes than asked for", HF_E_TOO_LARGE, "attributes",
           [&] {
             return hf_loan_set_attributes(&loan, attributes.data(),
                                           static_cast<std::uint32_t>(loan.attribute_room) + 1);
           }},
          {"NULL attributes", HF_E_INVALID, "encoded", [&] { return hf_loan_set_attributes(&loan, nullptr, 3); }},
          {"loan of nobody", HF_E_CLOSED, "loan", [&] { return hf_loan_publish(&none, 0); }},
          {"attributes of no loan", HF_E_CLOSED, "loan", [&] { return hf_loan_set_attributes(&none, "x", 1); }},
          {"batch of 33 bytes", HF_E_TOO_LARGE, "33",
           [&] { return hf_publish_batch(publisher_.c(), attributes.data(), 33, 33, 2, 0, &published); }},
      });
  EXPECT_EQ(published, 0u);
  EXPECT_EQ(hf_loan_publish_batch(&loan, 0, 0, &published), HF_OK);
  EXPECT_EQ(publisher_.position(), 0u);
  EXPECT_EQ(hf_loan_publish(&loan, 0), HF_OK) << "still as it was";
  EXPECT_EQ(publisher_.position(), 1u);
}

TEST_F(BadInput, AttributesThatMakeNoSense) {
  unsigned char buffer[64];
  std::uint32_t used = 0;
  const std::string long_key(256, 'k');
  EXPECT_EQ(hf_attributes_add(buffer, sizeof buffer, &used, HF_INT, "", "12345678", 8), HF_E_INVALID);
  EXPECT_EQ(hf_attributes_add(buffer, sizeof buffer, &used, HF_INT, long_key.c_str(), "12345678", 8), HF_E_INVALID);
  EXPECT_EQ(hf_attributes_add(buffer, sizeof buffer, &used, 99, "k", "12345678", 8), HF_E_INVALID);
  EXPECT_EQ(hf_attributes_add(buffer, sizeof buffer, &used, HF_INT, "k", "1234", 4), HF_E_INVALID);
  EXPECT_EQ(hf_attributes_add(buffer, sizeof buffer, &used, HF_BOOL, "k", "\2", 1), HF_E_INVALID);
  EXPECT_EQ(hf_attributes_add(buffer, 4, &used, HF_INT, "k", "12345678", 8), HF_E_TOO_LARGE);
  EXPECT_EQ(used, 0u);
  // A publisher may send anything as attributes: walking them ends, and never beyond them.
  publisher_.publish("first", 5).or_throw();
  for (std::uint32_t seed = 0; seed < 500; ++seed) {
    std::vector<unsigned char> nonsense(seed % 60 + 1);
    fill_payload(nonsense.data(), nonsense.size(), seed);
    std::uint32_t offset = 0;
    hf_attribute attribute{};
    int result = HF_OK;
    for (int steps = 0; result == HF_OK && steps < 100; ++steps) {
      result = hf_attributes_next(nonsense.data(), static_cast<std::uint32_t>(nonsense.size()), &offset, &attribute);
      if (result == HF_OK) {
        const auto* value = static_cast<const unsigned char*>(attribute.value);
        ASSERT_LE(value + attribute.value_bytes, nonsense.data() + nonsense.size());
      }
    }
    EXPECT_TRUE(result == HF_EMPTY || result == HF_E_CORRUPT) << seed;
  }
}

TEST_F(BadInput, OnTheControlSocketHarmsNobodyElse) {
  const nlohmann::json before = resources(broker_);
  for (const char* line :
       {"nonsense\n", "{}\n", "[]\n", "null\n", "{\"jsonrpc\":\"2.0\",\"id\":1}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no.such\"}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lane.grow\",\"params\":{\"handle\":1,\"bytes\":4096}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"topics\",\"params\":{\"limit\":501}}\n"}) {
    RawControl control(broker_.socket());
    control.send(line);
    EXPECT_TRUE(control.receive().failed()) << line;
  }
  {
    RawControl control(broker_.socket());
    control.send(std::string(70'000, 'x'));
    EXPECT_TRUE(control.receive().failed());
    EXPECT_TRUE(control.closed_by_broker());
  }
  EXPECT_EQ(resources(broker_), before);
}

TEST_F(BadInput, HandlesOfOthersCannotBeUsed) {
  const nlohmann::json before = resources(broker_);
  const std::uint64_t lane = broker_.topic("good").at("lanes").at(0).at("lane");
  {
    RawControl control(broker_.socket());
    control.hello().result();
    for (std::uint64_t handle = 0; handle < 20; ++handle) {
      EXPECT_TRUE(control.request("close", {{"handle", handle}}).failed());
      EXPECT_TRUE(control.request("lane.grow", {{"handle", handle}, {"bytes", 4096}}).failed());
      EXPECT_TRUE(control.request("lane.turn", {{"handle", handle}, {"entry", 0}, {"cursor", 0}}).failed());
      EXPECT_TRUE(control.request("subscriber.release", {{"handle", handle}, {"lane", lane}}).failed());
      EXPECT_TRUE(control.request("subscriber.lanes", {{"handle", handle}, {"after", 0}}).failed());
    }
    control.request("bye").result();  // without it the session would live as long as this process
  }
  ASSERT_TRUE(eventually([&] { return resources(broker_) == before; }));
  publisher_.publish("still", 5).or_throw();
  View view;
  EXPECT_EQ(subscriber_.take(view, kSoon).or_throw(), Status::kOk);
}

// A broker that refuses the hello, as one of another version does, and everything else for want of it.
class Refusing {
 public:
  explicit Refusing(const std::string& path)
      : path_(path),
        listening_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listening_.get(), 1), 0);
    thread_ = std::thread([this] { serve(); });
  }
  // How many requests there were, once the connection is over.
  int requests() {
    thread_.join();
    return requests_;
  }

 private:
  void serve() {
    const Descriptor connection(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string line;
    char byte = 0;
    while (::recv(connection.get(), &byte, 1, 0) == 1) {
      line.push_back(byte);
      if (byte != '\n') continue;
      const nlohmann::json request = nlohmann::json::parse(line);
      line.clear();
      ++requests_;
      const bool hello = request.at("method") == "hello";
      const nlohmann::json error{{"code", hello ? -32008 : -32009},
                                 {"message", hello ? "layout 2 is wanted" : "send hello first"},
                                 {"data", {{"error", hello ? "version" : "hello"}}}};
      const std::string answer =
          nlohmann::json{{"jsonrpc", "2.0"}, {"id", request.at("id")}, {"error", error}}.dump() + "\n";
      ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  std::string path_;
  Descriptor listening_;
  std::thread thread_;
  int requests_ = 0;
};

TEST_F(BadInput, RefusedHelloSaysWhyAndIsNotFollowedByAFarewell) {
  const std::string path = broker_.directory() + "/refusing.sock";
  Refusing refusing(path);
  hf_client_options options{};
  options.struct_size = sizeof options;
  options.socket = path.c_str();
  hf_client* client = nullptr;
  EXPECT_EQ(hf_client_open(&options, &client), HF_E_VERSION);
  EXPECT_STREQ(hf_last_error(), "layout 2 is wanted");
  EXPECT_EQ(refusing.requests(), 1);
}

}  // namespace
}  // namespace holdfast::integration
