// SPDX-License-Identifier: MIT
//
// Readers cannot harm writers: what an attacker can try on a mapping and a descriptor that the broker gave it. Named segments
// hold against every other user, sealed ones against everybody, root included.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/shm/lane_layout.hpp"
#include "tests/integration/broker.hpp"
#include "tests/integration/other_user.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

using nlohmann::json;

std::uint64_t size_of(int fd) {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

bool cut_off(int fd, std::uint64_t bytes) {
  return ::ftruncate(fd, 4096) == 0 || ::ftruncate(fd, 0) == 0 || size_of(fd) < bytes;
}

bool punched(int fd) {
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 ||
         ::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 ||
         ::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == 0;
}

bool written(int fd) { return ::pwrite(fd, "x", 1, 4000) == 1; }

bool mapped_writable(int fd) {
  void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return false;
  ::munmap(at, 4096);
  return true;
}

void try_descriptor(int fd, const std::string& through, std::uint64_t bytes, bool may_write, json& succeeded) {
  if (cut_off(fd, bytes)) succeeded.push_back(through + "ftruncate");
  if (!may_write && punched(fd)) succeeded.push_back(through + "punching");
  if (!may_write && written(fd)) succeeded.push_back(through + "writing");
  if (!may_write && mapped_writable(fd)) succeeded.push_back(through + "mapping writable");
}

// Opens the file that `path` (below /proc) leads to once more, writable, and goes on from there.
void try_path(const std::string& path, const std::string& name, std::uint64_t bytes, bool may_write, json& succeeded) {
  if (::truncate(path.c_str(), 0) == 0) succeeded.push_back(name + ": truncate");
  for (const int flags : {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC}) {
    const Descriptor again(::open(path.c_str(), flags | O_CLOEXEC));
    if (again) try_descriptor(again.get(), name + ": ", bytes, may_write, succeeded);
  }
}

std::string map_files_path(const void* address) {
  const MappedRange range = mapping_of(address);
  char name[64];
  std::snprintf(name, sizeof name, "/proc/self/map_files/%llx-%llx", static_cast<unsigned long long>(range.begin),
                static_cast<unsigned long long>(range.end));
  return name;
}

// Everything that is not allowed with a descriptor of a segment. `may_write`: it was given for writing, so that only its size is
// at stake: who maps it must not meet the end of the file. What worked nevertheless.
json attack(int fd, bool may_write) {
  json succeeded = json::array();
  const std::uint64_t bytes = size_of(fd);
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw Broken(std::string("mmap: ") + std::strerror(errno));
  if (!may_write && ::mprotect(memory, 4096, PROT_READ | PROT_WRITE) == 0) succeeded.push_back("mprotect");
  if (!may_write && ::madvise(memory, 4096, MADV_REMOVE) == 0) succeeded.push_back("MADV_REMOVE");
  try_descriptor(fd, "", bytes, may_write, succeeded);
  try_path("/proc/self/fd/" + std::to_string(fd), "/proc/self/fd", bytes, may_write, succeeded);
  try_path(map_files_path(memory), "/proc/self/map_files", bytes, may_write, succeeded);
  ::munmap(memory, bytes);
  if (size_of(fd) < bytes) succeeded.push_back("the file is shorter");
  return succeeded;
}

// The role "attacker": becomes another user where it is told, then attacks the descriptors that it gets. Arguments: socket,
// topic, "other" or "same". Answers {kind: [what worked]}. As the same user it attacks the lane alone: the rest is named, and
// open to its own user.
int attacker(Channel& test, const Arguments& arguments) {
  const bool other = arguments.at(2) == "other";
  if (other && !become_other_user(true)) return 1;
  RawControl control(arguments.at(0));
  const Reply hello = control.hello("attacker");
  const Reply opened =
      control.request("subscriber.open", {{"topic", arguments.at(1)}, {"delivery", "drop_oldest"}, {"start", "next"}});
  json worked;
  worked["lane"] = attack(opened.fd("lane"), false);
  if (other) {
    const std::uint32_t publisher = opened.result().at("lanes").at(0).at("publisher");
    const Reply peers = control.request("peers", {{"sessions", {publisher}}});
    worked["roster"] = attack(hello.fd("roster"), false);
    worked["session of the publisher"] = attack(peers.fd("session"), false);
    worked["bells of the publisher"] = attack(peers.fd("bells"), true);
    worked["own session"] = attack(hello.fd("session"), true);
    worked["own bells"] = attack(hello.fd("bells"), true);
    // A lane of its own that it could cut short under the broker is not to be had either.
    const Reply named = control.request("publisher.open", {{"topic", "mine"}, {"options", {{"backing", "named"}}}});
    worked["named lane"] = named.failed() ? json::array() : json::array({"opened"});
  }
  test.send(worked);
  ::_exit(0);  // a leak checker cannot look at a process that changed its user
}
const Role kAttacker("attacker", attacker);

json attack_topic(const PrivateBroker& broker, const std::string& topic, bool other_user) {
  Process process("attacker", {broker.socket(), topic, other_user ? "other" : "same"});
  json worked = process.channel().receive();
  if (worked.is_null()) throw Broken("the attacker ended without an answer");
  return worked;
}

PublisherOptions backed_by(int backing) {
  PublisherOptions options;
  options.backing = backing;
  return options;
}

// The attacks themselves: on a file that nobody protects each of them works.
TEST(Protection, AttacksWorkWhereNothingIsProtected) {
  const Descriptor open(::memfd_create("holdfast-test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(open.get(), 65536), 0);
  const json worked = attack(open.get(), false);
  for (const char* one : {"mprotect", "MADV_REMOVE", "ftruncate", "punching", "writing", "mapping writable",
                          "/proc/self/fd: truncate", "/proc/self/fd: writing", "the file is shorter"})
    EXPECT_NE(std::find(worked.begin(), worked.end(), one), worked.end()) << one << " is not among " << worked;
}

TEST(Protection, ReadersMappingCannotBeMadeWritable) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const int backing : {HF_BACKING_NAMED, HF_BACKING_SEALED}) {
    const std::string topic = "mapping/" + std::to_string(backing);
    RemoteClient writer(broker);
    Subscriber subscriber = client.subscriber_or_throw(topic);
    ASSERT_EQ(writer.open_publisher(topic, {{"backing", backing}}).at("code"), HF_OK);
    writer.publish(1, 50'000);
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    const MappedRange lane = mapping_of(view.data());
    EXPECT_EQ(lane.access, "r--s");
    EXPECT_EQ(::mprotect(lane.address(), lane.bytes(), PROT_READ | PROT_WRITE), -1);
    EXPECT_EQ(errno, EACCES);
    EXPECT_EQ(::mprotect(lane.address(), 4096, PROT_WRITE), -1);
    EXPECT_TRUE(sample_is_whole(view));
    // What the process may write are its own segments and the bells of those whom it has to ring, and nothing else.
    int writable = 0;
    for (const MappedRange& range : mapped_segments()) writable += range.access[1] == 'w' ? 1 : 0;
    EXPECT_LE(writable, 3) << "own session, own bells, the publisher's bells";
  }
}

TEST(Protection, SealedLaneHoldsAgainstEverybody) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("sealed", backed_by(HF_BACKING_SEALED));
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("sealed").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  reader.begin_taking_until_ended();
  publish_sample(publisher, 5000, 1);
  EXPECT_EQ(attack_topic(broker, "sealed", false).at("lane"), json::array());
  // And the broker can still make it grow.
  for (std::uint32_t i = 0; i < 20; ++i)
    ASSERT_EQ(publish_sample(publisher, std::uint64_t{i} << 18, i, kSoon), Status::kOk);
  publisher.close();
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, 21u);
  EXPECT_EQ(seen.torn, 0u);
}

TEST(Protection, PublisherOfASealedLaneCannotCutItShort) {
  PrivateBroker broker;
  RawControl control(broker.socket());
  const Reply hello = control.hello();
  const Reply opened = control.request("publisher.open", {{"topic", "own"}, {"options", {{"backing", "sealed"}}}});
  ASSERT_TRUE(opened.result().at("lane").at("sealed"));
  const int fd = opened.fd("lane");
  const std::uint64_t reserve = opened.result().at("lane").at("reserve_bytes");
  void* memory = ::mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  ASSERT_NE(memory, MAP_FAILED);
  // Before it is sealed nobody is shown it.
  const Reply early =
      control.request("subscriber.open", {{"topic", "own"}, {"delivery", "lossless"}, {"start", "next"}});
  EXPECT_EQ(early.result().at("lanes"), json::array());
  control.request("publisher.mapped", {{"handle", opened.result().at("handle")}}).result();
  // What it mapped before stays writable: it is the writer.
  static_cast<volatile char*>(memory)[shm::kRingOffset] = 1;
  EXPECT_EQ(::madvise(memory, 4096, MADV_REMOVE), -1);
  EXPECT_EQ(attack(fd, false), json::array());
  ::munmap(memory, reserve);
}

TEST(Protection, OtherUsersCannotTouchNamedSegments) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared);
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("named", backed_by(HF_BACKING_NAMED));
  Subscriber subscriber = client.subscriber_or_throw("named");
  publish_sample(publisher, 50'000, 1);
  const json worked = attack_topic(broker, "named", true);
  for (const char* kind : {"lane", "roster", "session of the publisher"})
    EXPECT_EQ(worked.at(kind), json::array()) << kind;
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_TRUE(sample_is_whole(view));
  for (const std::string& file : broker.shm_files()) {
    struct stat status{};
    ASSERT_EQ(::stat(("/dev/shm/" + file).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << file;
  }
}

// What another user is given for writing, its session's records and the bells, is mapped by others: cutting it short would kill
// them by SIGBUS.
TEST(Protection, OtherUsersCannotCutShortWhatTheyMayWrite) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared);
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("cut");
  publish_sample(publisher, 50'000, 1);
  const json worked = attack_topic(broker, "cut", true);
  for (const char* kind : {"own session", "own bells", "bells of the publisher", "named lane"})
    EXPECT_EQ(worked.at(kind), json::array()) << kind;
  EXPECT_TRUE(client.ping());
  EXPECT_EQ(publish_sample(publisher, 50'000, 2), Status::kOk);
}

TEST(Protection, LanesOfOtherUsersAreSealedByDefaultAndTheirSamplesArrive) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared);
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("across");
  Process writer("other_user", {broker.socket(), "across"});
  EXPECT_EQ(writer.channel().receive().value("published", 0), 3);
  View view;
  for (std::uint32_t i = 1; i <= 3; ++i) {
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
    EXPECT_TRUE(sample_is_whole(view));
  }
  EXPECT_EQ(broker.topic("across").at("lanes").at(0).at("backing"), "sealed");
  EXPECT_NE(mapping_of(view.data()).path.find("memfd:"), std::string::npos);
}

// The role "other_user": publishes as another user. Arguments: socket, topic.
int other_user(Channel& test, const Arguments& arguments) {
  if (!become_other_user(true)) return 1;
  ClientOptions options;
  options.socket = arguments.at(0);
  {
    Client client = Client::connect_or_throw(options);
    PublisherOptions deep;
    deep.depth = 3;
    Publisher publisher = client.publisher_or_throw(arguments.at(1), deep);
    for (std::uint32_t i = 1; i <= 3; ++i) publish_sample(publisher, 100'000, i, kSoon);
    test.send({{"published", 3}});
    test.receive();
  }
  ::_exit(0);
}
const Role kOtherUserRole("other_user", other_user);

TEST(Protection, StrangersAreDenied) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker;
  const nlohmann::json before = resources(broker);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!become_other_user(false)) ::_exit(2);
    ClientOptions options;
    options.socket = broker.socket();
    const auto refused = Client::connect(options);
    ::_exit(!refused && refused.error().code == HF_E_DENIED ? 0 : 1);
  }
  const int status = wait_for_exit(open_pidfd(child).get(), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(resources(broker), before);
}

}  // namespace
}  // namespace holdfast::integration
