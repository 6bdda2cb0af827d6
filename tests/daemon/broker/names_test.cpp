// SPDX-License-Identifier: MIT
#include "daemon/broker/names.hpp"

#include <string>

#include <gtest/gtest.h>

#include "proto/control/names.hpp"

namespace holdfast::broker {
namespace {

TEST(Names, TopicsAreWordsBetweenSlashes) {
  for (const char* name : {"a", "camera/left", "a.b-c_d/0", "A/B/C", "..", "-"})
    EXPECT_TRUE(is_topic_name(name)) << name;
  for (const char* name : {"", "/", "/a", "a/", "a//b", "a b", "a$", "a\n", "ä", "a/*"})
    EXPECT_FALSE(is_topic_name(name)) << name;
  EXPECT_TRUE(is_topic_name(std::string(255, 'x')));
  EXPECT_FALSE(is_topic_name(std::string(256, 'x')));
  EXPECT_FALSE(is_topic_name(std::string("a\0b", 3)));
}

// A dot would make the files of instance "a" look like those of "a.b".
TEST(Names, InstancesHaveNoDots) {
  for (const char* name : {"default", "a", "A-1_b"}) EXPECT_TRUE(control::is_instance_name(name)) << name;
  for (const char* name : {"", "a.b", "a/b", "a b"}) EXPECT_FALSE(control::is_instance_name(name)) << name;
  EXPECT_TRUE(control::is_instance_name(std::string(32, 'x')));
  EXPECT_FALSE(control::is_instance_name(std::string(33, 'x')));
}

}  // namespace
}  // namespace holdfast::broker
