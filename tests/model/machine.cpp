// SPDX-License-Identifier: MIT
#include "tests/model/machine.hpp"

#include <algorithm>

namespace holdfast::model {

using shm::Order;

namespace {
bool acquires(Order order) { return order == Order::kAcquire || order == Order::kAcqRel || order == Order::kSeqCst; }
bool releases(Order order) { return order == Order::kRelease || order == Order::kAcqRel || order == Order::kSeqCst; }
}  // namespace

std::uint32_t& Machine::slot(View& view, std::uint32_t index) {
  if (view.size() <= index) view.resize(index + 1, 0);
  return view[index];
}

void Machine::join(View& into, const View& from) {
  if (into.size() < from.size()) into.resize(from.size(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

Machine::Word& Machine::find(const void* word, std::uint64_t initial) {
  const auto [at, fresh] = words_.try_emplace(word);
  if (fresh) {
    at->second.index = static_cast<std::uint32_t>(words_.size() - 1);
    at->second.history.push_back({initial, {}});
  }
  return at->second;
}

void Machine::read_message(std::size_t process, Word& word, std::size_t index, Order order) {
  if (memory_ != Memory::kViews) return;
  Process& p = processes_[process];
  slot(p.current, word.index) = std::max(slot(p.current, word.index), static_cast<std::uint32_t>(index));
  const View& carried = word.history[index].view;
  if (acquires(order)) join(p.current, carried);
  join(p.acquired, carried);
  join(p.acquired, p.current);
}

std::uint64_t Machine::load(std::size_t process, const void* address, std::uint64_t initial, Order order) {
  Word& word = find(address, initial);
  if (memory_ == Memory::kBuffers) {
    const auto& buffer = buffers_[process];
    for (auto entry = buffer.rbegin(); entry != buffer.rend(); ++entry)
      if (entry->word == &word) return entry->value;
  }
  std::size_t index = word.history.size() - 1;
  if (memory_ == Memory::kViews) {
    const std::size_t oldest = slot(processes_[process].current, word.index);
    const std::size_t readable = index - oldest + 1;
    if (readable > 1) index -= chooser_.choose(static_cast<std::uint32_t>(readable), Budget::kStale);
    read_message(process, word, index, order);
  }
  return word.history[index].value;
}

void Machine::append(std::size_t process, Word& word, std::uint64_t value, Order order) {
  if (memory_ != Memory::kViews) {
    word.history.back().value = value;
    return;
  }
  Process& p = processes_[process];
  const auto index = static_cast<std::uint32_t>(word.history.size());
  slot(p.current, word.index) = index;
  slot(p.acquired, word.index) = index;
  View carried = releases(order) ? p.current : p.released;
  slot(carried, word.index) = index;
  word.history.push_back({value, std::move(carried)});
}

void Machine::store(std::size_t process, const void* address, std::uint64_t initial, std::uint64_t value, Order order) {
  Word& word = find(address, initial);
  if (memory_ == Memory::kBuffers && (buffered(process) || chooser_.choose(2, Budget::kDelay) == 1)) {
    buffers_[process].push_back({&word, value});
    return;
  }
  append(process, word, value, order);
  if (order == Order::kSeqCst) full_fence(process);
}

// A word of its own for the reads of one process: each read is an event that a later store must happen after. Its key is
// an address inside the payload word, which nobody else uses.
Machine::Word& Machine::reads_of(const void* word, std::size_t process) {
  return find(static_cast<const char*>(word) + 1 + process, 0);
}

bool Machine::sees_newest(std::size_t process, Word& word) {
  return slot(processes_[process].current, word.index) == word.history.size() - 1;
}

bool Machine::plain_load(std::size_t process, const void* address, std::uint64_t initial, std::uint64_t& value) {
  value = load(process, address, initial, Order::kRelaxed);
  if (memory_ != Memory::kViews) return true;
  append(process, reads_of(address, process), 0, Order::kRelaxed);
  return sees_newest(process, find(address, initial));
}

bool Machine::plain_store(std::size_t process, const void* address, std::uint64_t initial, std::uint64_t value) {
  bool ordered = true;
  if (memory_ == Memory::kViews) {
    ordered = sees_newest(process, find(address, initial));
    for (std::size_t other = 0; other < kProcessesMax; ++other)
      ordered = ordered && (other == process || sees_newest(process, reads_of(address, other)));
  }
  store(process, address, initial, value, Order::kRelaxed);
  return ordered;
}

void Machine::flush_one(std::size_t process) {
  auto& buffer = buffers_[process];
  append(process, *buffer.front().word, buffer.front().value, Order::kRelaxed);
  buffer.pop_front();
  if (buffer.empty()) unhide(process);
}

void Machine::flush(std::size_t process) {
  while (buffered(process)) flush_one(process);
  unhide(process);
}

void Machine::full_fence(std::size_t process) {
  flush(process);
  if (memory_ != Memory::kViews) return;
  Process& p = processes_[process];
  join(p.current, p.acquired);
  join(p.current, sequential_);
  sequential_ = p.current;
  p.acquired = p.current;
  p.released = p.current;
}

void Machine::fence(std::size_t process, Order order) {
  unhide(process);
  if (order == Order::kSeqCst) {
    full_fence(process);
    return;
  }
  if (memory_ != Memory::kViews) return;
  Process& p = processes_[process];
  if (acquires(order)) join(p.current, p.acquired);
  if (releases(order)) p.released = p.current;
}

void Machine::membarrier(std::size_t process) {
  full_fence(process);
  const View before = sequential_;
  View after = before;
  for (std::size_t other = 0; other < kProcessesMax; ++other) {
    if (unregistered_[other] || hidden_[other]) continue;
    sequential_ = before;
    full_fence(other);
    join(after, sequential_);
  }
  sequential_ = after;
  full_fence(process);
}

void Machine::bury(std::size_t process, std::size_t dead) {
  flush(dead);
  join(processes_[process].current, processes_[dead].current);
  join(processes_[process].acquired, processes_[dead].current);
}

std::uint64_t Machine::newest(const void* word, std::uint64_t initial) {
  return find(word, initial).history.back().value;
}

}  // namespace holdfast::model
