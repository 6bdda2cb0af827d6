// SPDX-License-Identifier: MIT
//
// Fast DDS over shared memory only: reliable topics of a plain type; from 4 KiB up with data sharing and loans. Its threads may run on
// any CPU.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fastdds/rtps/transport/shared_mem/SharedMemTransportDescriptor.h>
#include <fastdds/dds/core/LoanableSequence.hpp>
#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/publisher/qos/DataWriterQos.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/subscriber/qos/DataReaderQos.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>

#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

namespace dds = eprosima::fastdds::dds;
namespace rtps = eprosima::fastrtps::rtps;
using eprosima::fastrtps::types::ReturnCode_t;

constexpr std::uint32_t kHeaderBytes = 4;  // of a serialized payload: how it is encoded
constexpr int kSamples = 64;  // as many as Holdfast's ring holds, of small ones

// So many bytes, which are their own serialization.
class Bytes : public dds::TopicDataType {
 public:
  explicit Bytes(std::size_t bytes) : bytes_(bytes) {
    setName(("bytes" + std::to_string(bytes)).c_str());
    m_typeSize = static_cast<std::uint32_t>(bytes) + kHeaderBytes;
    m_isGetKeyDefined = false;
    auto_fill_type_object(false);
    auto_fill_type_information(false);
  }

  bool serialize(void* data, rtps::SerializedPayload_t* payload) override {
    payload->encapsulation = CDR_LE;
    payload->length = m_typeSize;
    const unsigned char header[kHeaderBytes] = {0, CDR_LE, 0, 0};
    std::memcpy(payload->data, header, kHeaderBytes);
    std::memcpy(payload->data + kHeaderBytes, data, bytes_);
    return true;
  }
  bool deserialize(rtps::SerializedPayload_t* payload, void* data) override {
    if (payload->length < m_typeSize) return false;
    std::memcpy(data, payload->data + kHeaderBytes, bytes_);
    return true;
  }
  std::function<std::uint32_t()> getSerializedSizeProvider(void*) override {
    return [size = m_typeSize] { return size; };
  }
  void* createData() override { return new unsigned char[bytes_]; }
  void deleteData(void* data) override { delete[] static_cast<unsigned char*>(data); }
  bool getKey(void*, rtps::InstanceHandle_t*, bool) override { return false; }
  bool is_bounded() const override { return true; }
  bool is_plain() const override { return true; }
  bool construct_sample(void*) const override { return true; }

 private:
  std::size_t bytes_;
};

void must(const ReturnCode_t& result, const char* call) {
  if (result != ReturnCode_t::RETCODE_OK) cannot(std::string(call) + ": code " + std::to_string(result()));
}

template <class T>
T* made(T* thing, const char* call) {
  if (thing == nullptr) cannot(std::string(call) + " failed");
  return thing;
}

int samples_of(std::size_t bytes) { return bytes <= 4096 ? kSamples : 1; }

// A reader acknowledges a shared sample in take(), not when it returns the loan (Fast DDS issue 2080): the writer may write
// the next one over it while it is read. In a round trip nothing is written meanwhile; small ones go one after the other in
// some rows, so they go by copy through the transport.
bool lends(const Shape& shape) { return shape.bytes >= 4096; }

template <class Qos>
Qos quality(Qos qos, const Shape& shape) {
  qos.reliability().kind = dds::RELIABLE_RELIABILITY_QOS;
  qos.reliability().max_blocking_time = {10, 0};
  qos.durability().kind = dds::VOLATILE_DURABILITY_QOS;
  qos.history().kind = dds::KEEP_ALL_HISTORY_QOS;
  qos.resource_limits().max_samples = samples_of(shape.bytes);
  qos.resource_limits().max_instances = 1;
  qos.resource_limits().max_samples_per_instance = samples_of(shape.bytes);
  qos.resource_limits().allocated_samples = samples_of(shape.bytes);
  if (lends(shape))
    qos.data_sharing().on("");
  else
    qos.data_sharing().off();
  return qos;
}

class DdsSender : public Sender {
 public:
  DdsSender(dds::Publisher* publisher, dds::Topic* topic, const Shape& shape)
      : publisher_(publisher),
        receivers_(static_cast<int>(shape.receivers)),
        lends_(lends(shape)),
        message_(lends_ ? 0 : shape.bytes) {
    dds::DataWriterQos qos = quality(dds::DATAWRITER_QOS_DEFAULT, shape);
    qos.reliable_writer_qos().times.heartbeatPeriod = {
        0, 1'000'000};  // asks that often; with the default of 3 s it crawls
    writer_ = made(publisher->create_datawriter(topic, qos), "create_datawriter");
  }
  ~DdsSender() override { publisher_->delete_datawriter(writer_); }

  void send(const void* head, std::size_t head_bytes) override {
    if (!matched_) wait_for_receivers();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!try_send(head, head_bytes)) {
      if (std::chrono::steady_clock::now() > deadline) cannot("no message could be sent for 10 s");
      sched_yield();
    }
  }

 private:
  // False: the receivers have not taken enough.
  bool try_send(const void* head, std::size_t head_bytes) {
    if (!lends_) {
      std::memcpy(message_.data(), head, head_bytes);
      return writer_->write(message_.data());
    }
    void* sample = nullptr;
    const ReturnCode_t loaned = writer_->loan_sample(sample);
    if (loaned == ReturnCode_t::RETCODE_OUT_OF_RESOURCES) return false;
    must(loaned, "loan_sample");
    std::memcpy(sample, head, head_bytes);
    if (writer_->write(sample)) return true;
    writer_->discard_loan(sample);  // it may have taken it back already
    return false;
  }

  void wait_for_receivers() {
    dds::PublicationMatchedStatus status;
    while (writer_->get_publication_matched_status(status), status.current_count < receivers_)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    matched_ = true;
  }

  dds::Publisher* publisher_;
  int receivers_;
  bool lends_;
  std::vector<unsigned char> message_;
  bool matched_ = false;
  dds::DataWriter* writer_ = nullptr;
};

class DdsReceiver : public Receiver {
 public:
  DdsReceiver(dds::Subscriber* subscriber, dds::Topic* topic, const Shape& shape)
      : subscriber_(subscriber),
        wait_(shape.wait),
        lends_(lends(shape)) {
    const dds::DataReaderQos qos = quality(dds::DATAREADER_QOS_DEFAULT, shape);
    reader_ = made(subscriber->create_datareader(topic, qos), "create_datareader");
  }
  ~DdsReceiver() override { subscriber_->delete_datareader(reader_); }

  void receive(void* head, std::size_t head_bytes) override {
    dds::LoanableSequence<unsigned char> samples;
    dds::SampleInfoSeq infos;
    while (true) {
      const ReturnCode_t result = reader_->take(samples, infos, 1);
      if (result == ReturnCode_t::RETCODE_OK) {
        const bool valid = infos[0].valid_data;
        if (valid) std::memcpy(head, &samples[0], head_bytes);
        if (valid && lends_ && !reader_->is_sample_valid(&samples[0], &infos[0]))
          cannot("its writer wrote over a sample while it was read");
        must(reader_->return_loan(samples, infos), "return_loan");
        if (valid) return;
      } else if (result != ReturnCode_t::RETCODE_NO_DATA) {
        must(result, "take");
      } else if (wait_ == Wait::kSleep) {
        reader_->wait_for_unread_message({1, 0});
      } else {
        sched_yield();
      }
    }
  }

 private:
  dds::Subscriber* subscriber_;
  Wait wait_;
  bool lends_;
  dds::DataReader* reader_ = nullptr;
};

class DdsPeer : public Peer {
 public:
  DdsPeer() {
    const FreeThreads free;
    dds::DomainParticipantQos qos = dds::PARTICIPANT_QOS_DEFAULT;
    qos.transport().use_builtin_transports = false;
    qos.transport().user_transports.push_back(
        std::make_shared<eprosima::fastdds::rtps::SharedMemTransportDescriptor>());
    const auto domain = static_cast<dds::DomainId_t>(std::hash<std::string>{}(shared_memory_prefix()) % 200);
    participant_ =
        made(dds::DomainParticipantFactory::get_instance()->create_participant(domain, qos), "create_participant");
    publisher_ = made(participant_->create_publisher(dds::PUBLISHER_QOS_DEFAULT), "create_publisher");
    subscriber_ = made(participant_->create_subscriber(dds::SUBSCRIBER_QOS_DEFAULT), "create_subscriber");
  }
  ~DdsPeer() override {
    participant_->delete_contained_entities();
    dds::DomainParticipantFactory::get_instance()->delete_participant(participant_);
  }

  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<DdsSender>(publisher_, topic_of(topic, shape), shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    const FreeThreads free;
    return std::make_unique<DdsReceiver>(subscriber_, topic_of(topic, shape), shape);
  }

 private:
  dds::Topic* topic_of(const std::string& name, const Shape& shape) {
    if (dds::TopicDescription* known = participant_->lookup_topicdescription(name))
      return static_cast<dds::Topic*>(known);
    const dds::TypeSupport type(new Bytes(shape.bytes));
    type.register_type(participant_);
    return made(participant_->create_topic(name, type.get_type_name(), dds::TOPIC_QOS_DEFAULT), "create_topic");
  }

  dds::DomainParticipant* participant_ = nullptr;
  dds::Publisher* publisher_ = nullptr;
  dds::Subscriber* subscriber_ = nullptr;
};

// All that any process has mapped, as far as we may see it.
std::set<std::string> mapped_files() {
  std::set<std::string> files;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream maps(process.path() / "maps");
    for (std::string line; std::getline(maps, line);)
      if (const auto at = line.find("/dev/shm/"); at != std::string::npos) files.insert(line.substr(at));
  }
  return files;
}

}  // namespace

std::unique_ptr<Peer> make_fast_dds() { return std::make_unique<DdsPeer>(); }

// The processes of a pair end without tear-down, and the names that it has in /dev/shm say nothing of us.
void tidy_fast_dds() {
  const std::set<std::string> mapped = mapped_files();
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename().string();
    const auto is = [&](const char* start) { return name.starts_with(start); };
    const bool theirs = is("fastrtps_") || is("sem.fastrtps_") || is("fast_datasharing_");
    if (theirs && !mapped.contains(entry.path().string())) left.push_back(entry.path());
  }
  std::error_code gone;
  for (const std::filesystem::path& path : left) std::filesystem::remove(path, gone);
}

}  // namespace holdfast::bench
