// SPDX-License-Identifier: MIT
#include "tests/docs/document.hpp"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>

namespace holdfast::docs {

namespace {

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

// Cells of "| a | b |". A bar between backticks belongs to its cell.
std::vector<std::string> split_row(std::string_view line) {
  std::vector<std::string> cells;
  std::string cell;
  bool in_code = false;
  for (const char c : line.substr(1)) {
    if (c == '`') in_code = !in_code;
    if (c == '|' && !in_code) {
      cells.push_back(trimmed(cell));
      cell.clear();
    } else {
      cell += c;
    }
  }
  return cells;
}

bool is_rule(std::string_view line) { return line.find_first_not_of("|-: ") == std::string_view::npos; }

}  // namespace

const std::string& Row::operator[](const std::string& column) const {
  static const std::string none;
  const auto found = cell.find(column);
  if (found != cell.end()) return found->second;
  ADD_FAILURE() << "line " << line << " has no column " << column;
  return none;
}

Document::Document(const std::string& name) {
  std::ifstream file(std::string(HOLDFAST_SOURCE_DIR "/") + name);
  EXPECT_TRUE(file.good()) << name << " cannot be read";
  std::string heading;
  std::string line;
  bool in_table = false;
  bool fenced = false;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.starts_with("```")) fenced = !fenced;
    if (fenced) continue;
    if (line.starts_with("#")) heading = trimmed(std::string_view(line).substr(line.find_first_not_of('#')));
    if (line.starts_with("    ")) commands_.push_back(trimmed(line));
    if (!line.starts_with("|")) {
      in_table = false;
      continue;
    }
    if (is_rule(line)) continue;
    const std::vector<std::string> cells = split_row(line);
    if (!in_table) {
      tables_.push_back({heading, cells, {}});
      in_table = true;
      continue;
    }
    Table& table = tables_.back();
    EXPECT_EQ(cells.size(), table.columns.size()) << name << ":" << number << " has another number of cells";
    Row row{number, {}};
    for (std::size_t i = 0; i < std::min(cells.size(), table.columns.size()); ++i)
      row.cell[table.columns[i]] = cells[i];
    table.rows.push_back(std::move(row));
  }
}

std::vector<Table> Document::under(std::string_view heading) const {
  std::vector<Table> found;
  for (const Table& table : tables_)
    if (table.heading.find(heading) != std::string::npos) found.push_back(table);
  return found;
}

Table Document::only(std::string_view heading, const std::vector<std::string>& columns) const {
  std::vector<Table> found;
  for (const Table& table : under(heading))
    if (table.columns.size() >= columns.size() && std::equal(columns.begin(), columns.end(), table.columns.begin()))
      found.push_back(table);
  EXPECT_EQ(found.size(), 1u) << "tables below '" << heading << "' that begin with column " << columns.front();
  return found.empty() ? Table{} : found.front();
}

std::string code(const std::string& cell) {
  const std::vector<std::string> found = codes(cell);
  return found.empty() ? cell : found.front();
}

std::vector<std::string> codes(const std::string& cell) {
  std::vector<std::string> found;
  for (std::size_t open = cell.find('`'); open != std::string::npos;) {
    const std::size_t close = cell.find('`', open + 1);
    if (close == std::string::npos) break;
    found.push_back(cell.substr(open + 1, close - open - 1));
    open = cell.find('`', close + 1);
  }
  return found;
}

}  // namespace holdfast::docs
