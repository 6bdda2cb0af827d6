// SPDX-License-Identifier: MIT
//
// A struct as a sample. Both sides say how it is laid out, and who disagrees is told so when it opens the topic: typed
#include <cstdint>
#include <cstdio>
#include <exception>

#include <holdfast/holdfast.hpp>

struct Pose {
  double x, y, heading;
  std::int64_t tick;
};
HOLDFAST_TYPE(Pose, "pose", x, y, heading, tick);

int main() try {
  auto client = holdfast::Client::connect_or_throw();
  auto subscriber = client.typed_subscriber<Pose>("example/pose").or_throw();
  auto publisher = client.typed_publisher<Pose>("example/pose").or_throw();
  for (int i = 0; i < 3; ++i) publisher.publish(Pose{0.5 * i, 1.0, 0.1 * i, i}).or_throw();

  holdfast::View view;
  while (subscriber.take(view).or_throw() == holdfast::Status::kOk) {
    const auto& pose = view.as<Pose>();
    std::printf("tick %lld: %.1f, %.1f, heading %.1f\n", static_cast<long long>(pose.tick), pose.x, pose.y,
                pose.heading);
  }
  auto other = client.typed_subscriber<double>("example/pose");
  std::printf("as double: %s\n", other ? "accepted, which is wrong" : other.error().sentence.c_str());
  return other ? 1 : 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
