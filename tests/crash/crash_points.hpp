// SPDX-License-Identifier: MIT
//
// The crash points: every site of proto/shm/sites.hpp whose access is a store or an exchange, once for each role that
// executes it. The crash tests take their list from here; tests/docs compares it with the crash tables.
#pragma once

#include <cctype>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "proto/shm/sites.hpp"

namespace holdfast::crash {

enum class Role { kPublisher, kSubscriber, kBroker };

struct Point {
  const shm::Site* site;
  Role role;
};

inline const char* name_of(Role role) {
  return role == Role::kPublisher ? "publisher" : role == Role::kSubscriber ? "subscriber" : "broker";
}

inline void PrintTo(const Point& point, std::ostream* out) {
  *out << name_of(point.role) << " at " << point.site->name;
}

// Who executes a site. A site of a new kind belongs to nobody until it is named here: then the comparison with the
// document fails.
inline std::vector<Role> roles_of(const shm::Site& site) {
  const std::string_view name = site.name;
  if (name == "ring.board") return {Role::kPublisher};
  if (name == "ring.post" || name == "ring.disarm") return {Role::kPublisher, Role::kSubscriber, Role::kBroker};
  if (name == "take.counter") return {Role::kPublisher, Role::kSubscriber};
  const std::string_view group = name.substr(0, name.find('.'));
  for (const std::string_view of : {"publish", "reclaim", "finish", "room"})
    if (group == of) return {Role::kPublisher};
  for (const std::string_view of : {"take", "release", "join", "leave", "sleep"})
    if (group == of) return {Role::kSubscriber};
  for (const std::string_view of : {"segment", "roster", "record", "lane"})
    if (group == of) return {Role::kBroker};
  return {};
}

inline std::vector<Point> points() {
  std::vector<Point> found;
  for (const shm::Site& site : shm::kSites)
    if (site.access == shm::Access::kStore || site.access == shm::Access::kExchange)
      for (const Role role : roles_of(site)) found.push_back({&site, role});
  return found;
}

inline std::vector<Point> points(Role role) {
  std::vector<Point> found;
  for (const Point& point : points())
    if (point.role == role) found.push_back(point);
  return found;
}

// A site's name as part of a test's name.
inline std::string test_suffix(std::string site) {
  for (char& c : site)
    if (c == '.') c = '_';
  return site;
}

// The test that kills at this point, as gtest names it.
inline std::string test_name(const std::string& site, std::string role) {
  role[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(role[0])));
  return role + "/CrashPoint.SurvivorsGoOn/" + test_suffix(site);
}

}  // namespace holdfast::crash
