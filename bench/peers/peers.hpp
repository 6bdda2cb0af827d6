// SPDX-License-Identifier: MIT
//
// The peers that are C and C++ libraries, or the kernel. Those whose package is missing are not linked: rows.cpp knows by
// HOLDFAST_PEER_....
#pragma once

#include <memory>

#include "bench/peers/peer.hpp"

namespace holdfast::bench {

std::unique_ptr<Peer> make_pipe();
std::unique_ptr<Peer> make_unix_socket();
std::unique_ptr<Peer> make_zeromq();
std::unique_ptr<Peer> make_nng();
std::unique_ptr<Peer> make_boost_queue();
std::unique_ptr<Peer> make_fast_dds();
void tidy_fast_dds();  // removes what its processes left in /dev/shm; called when they have ended

}  // namespace holdfast::bench
