// SPDX-License-Identifier: MIT
//
// The memory of a model run: what a load may return under three machines.
//
//   kSequential  one memory, every access at once
//   kBuffers     a FIFO store buffer per process (x86): loads see the own buffer first; a full fence, an exchange and a
//                membarrier empty it
//   kViews       the C++11 view machine: every word has its history of stores, every process a view of how much of it it
//                must see; relaxed loads may return older stores; acquire, release, fences and read-modify-writes move
//                views as the standard has it. Stores to one word are ordered as they happen.
//
// A membarrier is a full fence in every process. Everything is bounded and deterministic: choices come from `Chooser`.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "proto/shm/sites.hpp"

namespace holdfast::model {

enum class Memory : std::uint8_t { kSequential, kBuffers, kViews };
inline constexpr std::size_t kProcessesMax = 6;

// A decision with `options` outcomes: 0 is the ordinary one, the others cost one unit of the named budget.
enum class Budget : std::uint8_t { kSwitch, kStale, kDelay, kDeath, kCount };
class Chooser {
 public:
  virtual ~Chooser() = default;
  virtual std::uint32_t choose(std::uint32_t options, Budget budget) = 0;
};

class Machine {
 public:
  Machine(Memory memory, Chooser& chooser) : memory_(memory), chooser_(chooser) {}

  // `initial`: what the word holds in real memory; used at its first access.
  std::uint64_t load(std::size_t process, const void* word, std::uint64_t initial, shm::Order order);
  void store(std::size_t process, const void* word, std::uint64_t initial, std::uint64_t value, shm::Order order);
  // Replaces the newest value by change(value) if it says so; returns the value found.
  template <class Change>
  std::uint64_t modify(std::size_t process, const void* word, std::uint64_t initial, shm::Order order,
                       Change&& change) {
    flush(process);
    Word& at = find(word, initial);
    const std::uint64_t old = at.history.back().value;
    read_message(process, at, at.history.size() - 1, order);
    std::uint64_t fresh = old;
    if (change(old, fresh)) {
      const View inherited = at.history.back().view;
      append(process, at, fresh, order);
      join(at.history.back().view, inherited);
    }
    return old;
  }
  void fence(std::size_t process, shm::Order order);
  void membarrier(std::size_t process);
  // Membarriers do not reach this process.
  void unregister(std::size_t process) { unregistered_[process] = true; }
  // Nor do they reach stores that are in its buffer now, up to its next fence of any kind: a compiler that is free to
  // moves those behind the loads to come.
  void hide(std::size_t process) { hidden_[process] = true; }
  void unhide(std::size_t process) { hidden_[process] = false; }
  // Payload: accesses that are no atomics. Returns false on a data race: an access that does not happen after the last
  // conflicting one. (Under kSequential and kBuffers there is no such notion: what is read may simply be wrong.)
  bool plain_load(std::size_t process, const void* word, std::uint64_t initial, std::uint64_t& value);
  bool plain_store(std::size_t process, const void* word, std::uint64_t initial, std::uint64_t value);

  // `process` learns that `dead` is gone, from the kernel: it sees all that the dead one did.
  void bury(std::size_t process, std::size_t dead);

  // The newest value, for checks at the end of a run.
  std::uint64_t newest(const void* word, std::uint64_t initial);

  bool buffered(std::size_t process) const { return !buffers_[process].empty(); }
  void flush_one(std::size_t process);
  void flush(std::size_t process);

 private:
  using View = std::vector<std::uint32_t>;  // by word: index of the oldest store that may be read
  struct Message {
    std::uint64_t value;
    View view;
  };
  struct Word {
    std::uint32_t index;
    std::vector<Message> history;
  };
  struct Buffered {
    Word* word;
    std::uint64_t value;
  };
  struct Process {
    View current;
    View acquired;  // what an acquire fence would add
    View released;  // what a relaxed store carries since the last release fence
  };

  Word& find(const void* word, std::uint64_t initial);
  Word& reads_of(const void* word, std::size_t process);
  bool sees_newest(std::size_t process, Word& word);
  void read_message(std::size_t process, Word& word, std::size_t index, shm::Order order);
  void append(std::size_t process, Word& word, std::uint64_t value, shm::Order order);
  static std::uint32_t& slot(View& view, std::uint32_t index);
  static void join(View& into, const View& from);
  void full_fence(std::size_t process);

  Memory memory_;
  Chooser& chooser_;
  std::unordered_map<const void*, Word> words_;
  std::array<Process, kProcessesMax> processes_;
  std::array<std::deque<Buffered>, kProcessesMax> buffers_;
  View sequential_;
  std::array<bool, kProcessesMax> unregistered_{};
  std::array<bool, kProcessesMax> hidden_{};
};

}  // namespace holdfast::model
