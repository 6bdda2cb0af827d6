// SPDX-License-Identifier: MIT
#include "client/cli/table.hpp"

#include <algorithm>
#include <utility>

#include <unistd.h>

#include "client/cli/output.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {
constexpr std::size_t kGap = 2;
constexpr std::size_t kFlexibleMin = 8;
}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::widths(std::size_t columns_max) const {
  std::vector<std::size_t> widths;
  std::size_t total = 0;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = columns_of(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, columns_of(row[i]));
    widths.push_back(width);
    total += width + (i == 0 ? 0 : kGap);
  }
  // The wider of the flexible columns gives way first.
  while (columns_max != 0 && total > columns_max) {
    std::size_t widest = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i)
      if (columns_[i].flexible && widths[i] > kFlexibleMin && (widest == columns_.size() || widths[i] > widths[widest]))
        widest = i;
    if (widest == columns_.size()) break;
    --widths[widest];
    --total;
  }
  return widths;
}

std::string Table::line(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) const {
  std::string text;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const std::string cell = shortened(cells[i], widths[i]);
    const std::string padding(widths[i] - columns_of(cell), ' ');
    if (i != 0) text.append(kGap, ' ');
    text += columns_[i].align == Align::kRight ? padding + cell : cell + padding;
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<std::string> Table::lines(std::size_t columns_max, std::size_t rows_max) const {
  const std::vector<std::size_t> wide = widths(columns_max);
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<std::string> lines{line(titles, wide)};
  std::size_t shown = rows_.size();
  if (rows_max != 0 && shown > rows_max) shown = rows_max - 1;
  for (std::size_t i = 0; i < shown; ++i) lines.push_back(line(rows_[i], wide));
  if (shown < rows_.size()) lines.push_back("… " + std::to_string(rows_.size() - shown) + " more");
  return lines;
}

void Table::print() const {
  std::string text;
  for (const std::string& line : lines(is_terminal(STDOUT_FILENO) ? screen().columns : 0)) text += line + "\n";
  cli::print(text);
}

}  // namespace holdfast::cli
