// SPDX-License-Identifier: MIT
#include "tests/model/fiber.hpp"

#include <cstdint>

namespace holdfast::model {

#if defined(__x86_64__)

extern "C" void holdfast_change_stack(void** from, void* to);
__asm__(
    ".text\n"
    ".type holdfast_change_stack, @function\n"
    "holdfast_change_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size holdfast_change_stack, .-holdfast_change_stack\n");

void Fiber::prepare(void (*entry)()) {
  if (stack_ == nullptr) stack_ = std::make_unique<char[]>(kStackBytes);
  auto top = reinterpret_cast<std::uintptr_t>(stack_.get() + kStackBytes) & ~std::uintptr_t{15};
  auto* words = reinterpret_cast<void**>(top);
  *--words = nullptr;  // where `entry` would return to: it does not
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  stack_pointer_ = words;
}

void Fiber::change(Fiber& from, Fiber& to) { holdfast_change_stack(&from.stack_pointer_, to.stack_pointer_); }

#else

void Fiber::prepare(void (*entry)()) {
  if (stack_ == nullptr) stack_ = std::make_unique<char[]>(kStackBytes);
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void Fiber::change(Fiber& from, Fiber& to) { swapcontext(&from.context_, &to.context_); }

#endif

}  // namespace holdfast::model
