// SPDX-License-Identifier: MIT
#include "tests/soak/scorecard.hpp"

#include <cinttypes>
#include <cstdio>

namespace holdfast::soak {

namespace {

std::string milliseconds_text(double ms) {
  if (ms < 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", ms);
  return text;
}

}  // namespace

void print_scorecard(const std::vector<Score>& scores) {
  std::printf("\n%-15s %9s %12s %6s %6s %6s %7s %8s %7s %12s %14s\n", "campaign", "count", "samples", "lost", "twice",
              "torn", "leaked", "stalled", "failed", "gap (ms)", "without (ms)");
  for (const Score& score : scores) {
    std::printf("%-15s %9" PRIu64 " %12" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %7" PRIu64 " %8" PRIu64
                " %7" PRIu64 " %12s %14s\n",
                score.name.c_str(), score.count, score.samples, score.lost, score.duplicated, score.torn, score.leaked,
                score.stalled, score.failed, milliseconds_text(score.gap_ms).c_str(),
                milliseconds_text(score.quiet_gap_ms).c_str());
  }
  for (const Score& score : scores) {
    if (!score.note.empty()) std::printf("%s: %s\n", score.name.c_str(), score.note.c_str());
    for (const std::string& sentence : score.sentences)
      std::printf("%s: WRONG: %s\n", score.name.c_str(), sentence.c_str());
  }
  for (const Score& score : scores)
    if (score.gap_goal > 0 && score.gap_ms > 0 && score.quiet_gap_ms > 0)
      std::printf("%s: the longest gap is %.2f times that without kills (goal: %.0f): %s\n", score.name.c_str(),
                  score.gap_ms / score.quiet_gap_ms, score.gap_goal,
                  score.gap_ms <= score.gap_goal * score.quiet_gap_ms ? "met" : "missed");
  for (const Score& score : scores)
    if (score.good() && !score.whole())
      std::printf("%s: not_run: %" PRIu64 " of %" PRIu64 ", its time was up\n", score.name.c_str(),
                  score.planned - score.count, score.planned);
  std::fflush(stdout);
}

}  // namespace holdfast::soak
