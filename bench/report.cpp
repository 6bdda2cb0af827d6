// SPDX-License-Identifier: MIT
#include "bench/report.hpp"

#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "bench/statistics.hpp"

namespace holdfast::bench {

namespace {

using Json = nlohmann::ordered_json;

double in_units(const Case& measured, double seconds) {
  return measured.direction == Direction::kDown ? seconds * measured.scale : measured.scale / seconds;
}

bool is_met(const Case& measured, double value, double floor, double ratio) {
  if (measured.direction == Direction::kUp) return ratio >= measured.goal;
  return ratio <= measured.goal + measured.allowance / floor && value <= measured.most.value_or(value);
}

void add_figures(const Case& measured, const PairResult& result, Json& json) {
  std::vector<double> values;
  std::vector<double> floors;
  std::vector<double> ratios;
  for (const BlockPair& pair : result.pairs) {
    values.push_back(in_units(measured, pair.measured));
    floors.push_back(in_units(measured, pair.floor));
    ratios.push_back(values.back() / floors.back());
  }
  json["value"] = median(values);
  json["floor_value"] = median(floors);
  json["ratio"] = median(ratios);
  json["p10"] = quantile(ratios, 0.1);
  json["p50"] = json["ratio"];
  json["p90"] = quantile(ratios, 0.9);
  json["runs"] = result.pairs.size();
  json["disturbed"] = result.disturbed;
  json["met"] = is_met(measured, json["value"], json["floor_value"], json["ratio"]);
}

// Counted, not timed: there is nothing to be spread.
void add_count(const Case& measured, double value, Json& json) {
  const double ratio = measured.limit > 0 ? value / measured.limit : value;
  json["value"] = value;
  json["floor_value"] = measured.limit;
  for (const char* number : {"ratio", "p10", "p50", "p90"}) json[number] = ratio;
  json["runs"] = 1;
  json["met"] = ratio <= measured.goal;
}

}  // namespace

Json describe(const Case& measured, const Outcome& outcome, const Circumstances& circumstances) {
  Json json;
  json["name"] = measured.name;
  json["value"] = nullptr;
  json["unit"] = measured.unit;
  json["floor"] = measured.floor_name;
  json["floor_value"] = nullptr;
  json["ratio"] = nullptr;
  json["direction"] = measured.direction == Direction::kDown ? "down" : "up";
  json["goal"] = measured.goal;
  if (measured.allowance > 0) json["allowance"] = measured.allowance;
  if (measured.most) json["value_most"] = *measured.most;
  json["met"] = false;
  for (const char* number : {"p10", "p50", "p90"}) json[number] = nullptr;
  json["runs"] = 0;
  json["cpu_pair"] = nullptr;
  if (circumstances.cpus) json["cpu_pair"] = {circumstances.cpus->first, circumstances.cpus->second};
  json["commit"] = circumstances.commit;
  json["status"] = "not_run";
  if (!outcome.pairs.reason.empty()) {
    json["reason"] = outcome.pairs.reason;
    return json;
  }
  if (measured.count)
    add_count(measured, outcome.count, json);
  else
    add_figures(measured, outcome.pairs, json);
  json["status"] = json["met"].get<bool>() ? "met" : "missed";
  return json;
}

void print_heading() {
  std::printf("%-34s %10s %-5s %10s  %6s %5s  %-19s %5s  %-7s %s\n", "name", "value", "unit", "floor", "ratio", "goal",
              "p10 - p90", "runs", "status", "floor is");
}

void print_row(const Json& result) {
  if (result["status"] == "not_run") return;
  const bool down = result["direction"] == "down";
  std::printf("%-34s %10.2f %-5s %10.2f  %6.3f %s%4.2f  %.3f - %-11.3f %5d  %-7s %s\n",
              result["name"].get<std::string>().c_str(), result["value"].get<double>(),
              result["unit"].get<std::string>().c_str(), result["floor_value"].get<double>(),
              result["ratio"].get<double>(), down ? "<" : ">", result["goal"].get<double>(),
              result["p10"].get<double>(), result["p90"].get<double>(), result["runs"].get<int>(),
              result["status"].get<std::string>().c_str(), result["floor"].get<std::string>().c_str());
  std::fflush(stdout);
}

void print_not_run(const std::vector<Json>& results) {
  for (const Json& result : results)
    if (result["status"] == "not_run")
      std::printf("%-34s not_run: %s\n", result["name"].get<std::string>().c_str(),
                  result["reason"].get<std::string>().c_str());
}

void write_json(const std::vector<Json>& results, const std::string& path) {
  std::ofstream file(path);
  for (const Json& result : results) file << result.dump() << '\n';
  file.flush();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace holdfast::bench
