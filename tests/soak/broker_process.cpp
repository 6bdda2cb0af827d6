// SPDX-License-Identifier: MIT
#include "tests/soak/broker_process.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>

#include "tests/integration/control.hpp"
#include "tests/integration/instance_files.hpp"

namespace holdfast::soak {

using integration::Broken;
using integration::RawControl;

namespace {

std::string make_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "holdfast-soak-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw Broken("mkdtemp");
  return name;
}

std::string fresh_instance() {
  static int next = 0;
  return "soak-" + std::to_string(::getpid()) + "-" + std::to_string(next++);
}

}  // namespace

BrokerProcess::BrokerProcess() : directory_(make_directory()), instance_(fresh_instance()) {}

BrokerProcess::~BrokerProcess() {
  if (child_ && child_->running()) {
    child_->signal(SIGTERM);
    child_->signal(SIGCONT);
    if (!child_->ended(seconds(10))) child_->kill();
  }
  std::error_code ignored;
  for (const std::string& file : integration::all_files_of_instance(instance_))
    std::filesystem::remove("/dev/shm/" + file, ignored);
  std::filesystem::remove_all(directory_, ignored);
}

void BrokerProcess::start() {
  const Descriptor log(::open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  Launch launch;
  launch.program = HOLDFASTD;
  launch.arguments = {"holdfastd", "--instance", instance_, "--runtime-dir", directory_, "--socket", socket()};
  launch.output = log.get();
  launch.when_we_die = SIGTERM;  // it removes what it made
  child_.emplace(launch);
}

void BrokerProcess::wait_ready() {
  const auto answers = [&] {
    if (!running()) throw Broken("holdfastd ended:\n" + log());
    try {
      request("ping");
      return true;
    } catch (const std::exception&) {
      return false;
    }
  };
  if (!soon(answers, seconds(30), std::chrono::microseconds(500))) throw Broken("holdfastd does not answer:\n" + log());
}

nlohmann::json BrokerProcess::request(const char* method, const nlohmann::json& params) const {
  return RawControl(socket()).request(method, params).result();
}

nlohmann::json BrokerProcess::all(const char* method) const {
  RawControl control(socket());
  nlohmann::json rows = nlohmann::json::array();
  nlohmann::json params{{"limit", 500}};
  while (true) {
    const nlohmann::json page = control.request(method, params).result();
    for (const nlohmann::json& row : page.at(method)) rows.push_back(row);
    if (page.at("next").is_null()) return rows;
    params["after"] = page.at("next");
  }
}

std::string BrokerProcess::log() const {
  std::ostringstream text;
  text << std::ifstream(directory_ + "/log").rdbuf();
  const std::string all = text.str();
  constexpr std::size_t kTail = 8'000;
  return all.size() > kTail ? all.substr(all.size() - kTail) : all;
}

std::size_t BrokerProcess::descriptors() const {
  const std::filesystem::directory_iterator open("/proc/" + std::to_string(child_->pid()) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(open), end(open)));
}

std::vector<std::string> BrokerProcess::shm_files() const { return integration::files_of_instance(instance_); }

std::uint64_t BrokerProcess::shm_bytes() const { return integration::bytes_of_instance(instance_); }

}  // namespace holdfast::soak
