// SPDX-License-Identifier: MIT
#include "daemon/config.hpp"

#include <cstdlib>

#include <gtest/gtest.h>

#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {
namespace {

class ConfigFile : public testing::Test {
 protected:
  std::string read(const std::string& text) {
    path_ = directory_.write("holdfast.toml", text);
    config_ = {};
    return read_config(path_, config_);
  }

  TemporaryDirectory directory_;
  std::string path_;
  Config config_;
};

TEST_F(ConfigFile, EveryKeyIsTaken) {
  EXPECT_EQ(read("instance = \"lab\"\nruntime_dir = \"/r\"\nsocket = \"/r/s\"\nlog_level = \"debug\"\n"
                 "[limits]\nsessions = 5\nsession_bytes_max = 1048576\nconnections_per_uid = 7\n"
                 "[access]\ngroup = \"video\"\n"),
            "");
  EXPECT_EQ(config_.instance, "lab");
  EXPECT_EQ(config_.runtime_dir, "/r");
  EXPECT_EQ(config_.socket, "/r/s");
  EXPECT_EQ(config_.log_level, "debug");
  EXPECT_EQ(config_.sessions, 5U);
  EXPECT_EQ(config_.session_bytes_max, 1048576U);
  EXPECT_EQ(config_.connections_per_uid, 7U);
  EXPECT_EQ(config_.group, "video");
}

TEST_F(ConfigFile, AnUnknownKeyIsNamedWithItsPlace) {
  EXPECT_EQ(read("instance = \"a\"\n  colour = 3\n").rfind(path_ + ":2:3: unknown key \"colour\"", 0), 0U);
  EXPECT_EQ(read("[limits]\nsesions = 3\n").rfind(path_ + ":2:1: unknown key \"limits.sesions\"", 0), 0U);
  EXPECT_NE(read("[acess]\n").find("unknown key \"acess\""), std::string::npos);
}

TEST_F(ConfigFile, WrongValuesAreNamedWithTheirPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"instance = 3\n", ":1:12: \"instance\" must be a text"},
      {"limits = 3\n", ":1:10: \"limits\" must be a table"},
      {"[limits]\nsessions = \"x\"\n", ":2:12: \"limits.sessions\" must be a whole number"},
      {"[limits]\nsessions = 0\n", ":2:12: \"limits.sessions\" must be a whole number"},
      {"[limits]\nsessions = 1.5\n", ":2:12: \"limits.sessions\" must be a whole number"},
      {"[limits]\nsession_bytes_max = -1\n", "\"limits.session_bytes_max\" must be"},
      {"[access]\ngroup = 7\n", "\"access.group\" must be a text"},
      {"[access]\ngroup = \"no such group\"\n", ":2:9: \"access.group\" must be the name or number of a group"},
      {"instance = \"a.b\"\n", ":1:12: \"instance\" must be 1 to 32 of"},
      {"instance = \"\"\n", ":1:12: \"instance\" must be 1 to 32 of"},
      {"\nlog_level = \"loud\"\n", ":2:13: \"log_level\" must be one of trace"},
      {"socket = \"/a\\u0000b\"\n", ":1:10: \"socket\" must be a path"},
      {"runtime_dir = \"/a\\u0000b\"\n", ":1:15: \"runtime_dir\" must be a path"},
  };
  for (const auto& [text, expected] : cases) EXPECT_NE(read(text).find(expected), std::string::npos) << read(text);
}

TEST_F(ConfigFile, WhatIsNoTomlIsTold) {
  EXPECT_EQ(read("instance = \n").rfind(path_ + ":1:", 0), 0U);
  Config config;
  EXPECT_NE(read_config(directory_.file("nowhere"), config), "");
  EXPECT_NE(read_config(directory_.file(""), config).find("is a directory"), std::string::npos);
}

class Completion : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HOLDFAST_INSTANCE", "HOLDFAST_SOCKET", "XDG_RUNTIME_DIR"}) ::unsetenv(name);
  }
  Config config_;
};

TEST_F(Completion, Defaults) {
  EXPECT_EQ(complete(config_), "");
  EXPECT_EQ(config_.instance, "default");
  EXPECT_EQ(config_.socket, "/run/holdfast/default.sock");
  EXPECT_EQ(config_.runtime_dir, "/run/holdfast");
}

TEST_F(Completion, OfAUser) {
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  ::setenv("HOLDFAST_INSTANCE", "lab", 1);
  EXPECT_EQ(complete(config_), "");
  EXPECT_EQ(config_.socket, "/run/user/7/holdfast/lab.sock");
  EXPECT_EQ(config_.runtime_dir, "/run/user/7/holdfast");
}

TEST_F(Completion, SocketFromTheEnvironment) {
  ::setenv("HOLDFAST_SOCKET", "/tmp/x/y.sock", 1);
  EXPECT_EQ(complete(config_), "");
  EXPECT_EQ(config_.socket, "/tmp/x/y.sock");
  EXPECT_EQ(config_.runtime_dir, "/tmp/x");
}

TEST_F(Completion, RuntimeDirectoryGivesTheSocket) {
  ::setenv("HOLDFAST_SOCKET", "/tmp/x/y.sock", 1);
  config_.runtime_dir = "/tmp/z";
  EXPECT_EQ(complete(config_), "");
  EXPECT_EQ(config_.socket, "/tmp/z/default.sock");
}

TEST_F(Completion, PlacesAreLookedAt) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("file", "");
  const auto check = [this](const std::string& runtime_dir, const std::string& socket) {
    config_ = {};
    config_.runtime_dir = runtime_dir;
    config_.socket = socket;
    const std::string wrong = complete(config_);
    return wrong.empty() ? check_places(config_) : wrong;
  };
  EXPECT_EQ(check(directory.file("made"), ""), "");
  EXPECT_EQ(check(directory.file("made"), directory.file("s")), "");
  EXPECT_NE(check(file, "").find("is no directory"), std::string::npos);
  EXPECT_NE(check("", file).find("is no socket"), std::string::npos);
  EXPECT_NE(check(directory.file("made"), directory.file("other/s")).find("is not there"), std::string::npos);
}

TEST_F(Completion, RefusesWhatCannotBe) {
  config_.instance = "a.b";
  EXPECT_NE(complete(config_).find("instance"), std::string::npos);
  config_ = {};
  config_.socket = "/" + std::string(200, 'x');
  EXPECT_NE(complete(config_).find("107"), std::string::npos);
  config_ = {};
  config_.log_level = "loud";
  EXPECT_NE(complete(config_).find("loud"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::daemon
