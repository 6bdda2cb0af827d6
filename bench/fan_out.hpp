// SPDX-License-Identifier: MIT
//
// One publisher and many subscribers in processes of their own, through the C API. Each workload uses topics of its own,
// below `topic`; the follower does nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bench/workload.hpp"

namespace holdfast::bench {

// Publishing `bytes` (up to 32: inline; more: a loan, not touched) to `subscribers` drop-oldest subscribers in as many
// processes, attached and idle. One operation is one publish.
std::unique_ptr<Workload> fan_out(const std::string& topic, std::uint64_t bytes, std::uint32_t subscribers);

// One publish of 32 bytes to `subscribers` drop-oldest subscribers in as many processes, all asleep on it. What they do with
// it is not counted.
std::unique_ptr<Workload> fan_out_asleep(const std::string& topic, std::uint32_t subscribers);

}  // namespace holdfast::bench
