// SPDX-License-Identifier: MIT
//
// Every bound of the broker, with the reason for its value. `stats` shows them under `limits`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shm/lane_layout.hpp"
#include "proto/shm/roster_layout.hpp"

namespace holdfast::broker {

// Two mappings for a session, one for a lane: together below vm.max_map_count, which is 65 530 by default.
inline constexpr std::size_t kSessionsMax = 10'000;
inline constexpr std::size_t kLanesMax = 40'000;

// A topic costs the broker a row and a 128-byte block; 65 536 of both are a few MiB.
inline constexpr std::size_t kTopicsMax = 65'536;

// Connections without a session (tools) beside one for each session.
inline constexpr std::size_t kConnectionsMax = kSessionsMax + 1'000;
inline constexpr std::size_t kConnectionsPerUidDefault = kConnectionsMax;

// A process that uses every topic, as publisher or as subscriber.
inline constexpr std::size_t kHandlesPerSessionMax = 65'536;

// Opening a subscriber makes a record for each lane of its topic in one step: this bounds the step.
inline constexpr std::size_t kLanesPerTopicMax = 1'024;

// Opening a publisher makes a record for each subscriber of its topic. It is also what a lane's chain of blocks holds.
inline constexpr std::size_t kSubscribersPerTopicMax = holdfast::shm::kReadersMax;

// Address space that is mapped for segments that grow. 64 MiB of records are 262 000 of the smallest; 16 MiB of bells
// are as many boards.
inline constexpr std::uint64_t kSessionReserve = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kBellsReserve = std::uint64_t{16} << 20;

// A fresh session: its header and a page of records. Bells: the first page of boards.
inline constexpr std::uint64_t kSessionBytesFirst = 2 * holdfast::shm::kPage;
inline constexpr std::uint64_t kBellsBytesFirst = 4 * holdfast::shm::kPage;
inline constexpr std::uint64_t kRosterBytesFirst = 4 * holdfast::shm::kPage;

// Segments that hold records, boards and blocks grow by what they have, at most by this much at a time.
inline constexpr std::uint64_t kGrowthStepMax = std::uint64_t{64} << 10;

// A lane's address space. The default is the documented one; the bound leaves room for a few lanes in 47 bits.
inline constexpr std::uint64_t kLaneBytesDefault = std::uint64_t{8} << 30;
inline constexpr std::uint64_t kLaneBytesMax = std::uint64_t{1} << 44;

// The two together keep a reply within one line and within SCM_MAX_FD descriptors, the longest names included.
inline constexpr std::size_t kLanesPerReply = 32;
inline constexpr std::size_t kPeersPerRequest = 16;
inline constexpr std::size_t kHandlesPerResume = 256;
// Of segments that a client gives back, with one request.
inline constexpr std::size_t kDescriptorsPerRequest = 64;
inline constexpr std::size_t kTokenBytesMax = 128;

// Paging of lists, and how much of one topic is listed.
inline constexpr std::uint64_t kPageDefault = 100;
inline constexpr std::uint64_t kPageMax = 500;
inline constexpr std::size_t kListedPerTopic = 64;

// Texts that clients give. A mismatch shows two type names, each once as a value and once in a sentence, and a byte may
// take seven: 2 048 keep that within a line.
inline constexpr std::size_t kTopicNameBytesMax = 255;
inline constexpr std::size_t kTypeNameBytesMax = 2'048;
inline constexpr std::size_t kProcessNameBytesMax = 64;
inline constexpr std::size_t kLibraryBytesMax = 64;
inline constexpr std::size_t kExecutableBytesMax = 1'024;

// Linger and stall timeout: a year is for ever enough.
inline constexpr std::int64_t kTimeoutMsMax = std::int64_t{366} * 24 * 3600 * 1000;

// Each eventfd of a bell is a descriptor of the broker.
inline constexpr std::size_t kEventsMax = 4'096;

// Sessions without a connection are asked this often whether somebody holds their lock: three system calls each. A
// second is soon for a program that waits for a name that it has let go of.
inline constexpr std::int64_t kAskLocksMs = 1'000;

// A connection that has sent no complete line for this long is closed.
inline constexpr std::int64_t kFirstLineDeadlineMs = 10'000;

}  // namespace holdfast::broker
