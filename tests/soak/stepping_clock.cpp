// SPDX-License-Identifier: MIT
#include "tests/soak/stepping_clock.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/control/descriptor.hpp"
#include "tests/integration/within.hpp"

namespace holdfast::soak {

using integration::Broken;

namespace {

constexpr off_t kSharedBytes = 4096;  // more than libfaketime needs

constexpr const char* kVariables[] = {"LD_PRELOAD",      "FAKETIME_TIMESTAMP_FILE",
                                      "FAKETIME_SHARED", "FAKETIME_NO_CACHE",
                                      "NO_FAKE_STAT",    "FAKETIME_DONT_FAKE_MONOTONIC"};

}  // namespace

std::string SteppingClock::library() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib", ignored)) {
    const std::filesystem::path path = entry.path() / "faketime" / "libfaketime.so.1";
    if (std::filesystem::exists(path, ignored)) return path;
  }
  return "";
}

SteppingClock::SteppingClock(const std::string& library)
    : directory_((std::filesystem::temp_directory_path() / "holdfast-clock-XXXXXX").string()),
      shared_("/holdfast-clock-" + std::to_string(::getpid())) {
  if (::mkdtemp(directory_.data()) == nullptr) throw Broken("mkdtemp");
  set(std::chrono::nanoseconds(0));
  // Were there none, each process would make its own, and leave it behind when it is killed.
  sem_t* const semaphore = ::sem_open(shared_.c_str(), O_CREAT, 0600, 1);
  const Descriptor memory(::shm_open(shared_.c_str(), O_CREAT | O_RDWR, 0600));
  if (semaphore == SEM_FAILED || ::ftruncate(memory.get(), kSharedBytes) != 0)
    throw Broken("no memory for libfaketime");
  ::sem_close(semaphore);
  const std::string values[] = {
      HOLDFAST_REAL_TIMERS ":" + library, directory_ + "/clock", shared_ + " " + shared_, "1", "1", "1"};
  for (std::size_t i = 0; i < std::size(kVariables); ++i) ::setenv(kVariables[i], values[i].c_str(), 1);
}

SteppingClock::~SteppingClock() {
  for (const char* name : kVariables) ::unsetenv(name);
  ::shm_unlink(shared_.c_str());
  ::sem_unlink(shared_.c_str());
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void SteppingClock::set(std::chrono::nanoseconds ahead) {
  char text[32];
  std::snprintf(text, sizeof text, "%+.6f\n", std::chrono::duration<double>(ahead).count());
  std::ofstream(directory_ + "/next") << text;
  std::filesystem::rename(directory_ + "/next", directory_ + "/clock");
}

}  // namespace holdfast::soak
