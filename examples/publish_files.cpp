// SPDX-License-Identifier: MIT
//
// Publishes files, read straight into shared memory, their paths as attributes: publish_files TOPIC SUBSCRIBERS [keep-a-loan] <LIST
// The list holds paths, each ended by a NUL. keep-a-loan: at the end waits to be killed, with a loan open.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iostream>
#include <stdexcept>
#include <string>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: publish_files TOPIC SUBSCRIBERS [keep-a-loan] <LIST");
  auto client = holdfast::Client::connect_or_throw();
  auto publisher = client.publisher_or_throw(argv[1]);
  publisher.wait_for_subscribers(std::stol(argv[2])).or_throw();
  for (std::string path; std::getline(std::cin, path, '\0');) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (file < 0 || fstat(file, &status) != 0) throw std::runtime_error("cannot open " + path);
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    auto loan = publisher.loan_or_throw(bytes, holdfast::Attributes().add("path", path));
    if (read(file, loan.data(), bytes) != status.st_size) throw std::runtime_error("cannot read all of " + path);
    close(file);
    loan.publish_or_throw();
  }
  if (argc > 3) {
    auto loan = publisher.loan_or_throw(1 << 20);
    std::cerr << "loan open" << std::endl;
    while (true) pause();
  }
  publisher.drain().or_throw();
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
