// SPDX-License-Identifier: MIT
//
// A table for people: columns as wide as they need to be. On a terminal the flexible column gives way, so that each row
// stays one line; elsewhere nothing is shortened. Cells are made printable here.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace holdfast::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
    bool flexible = false;  // at most two of a table
  };

  explicit Table(std::vector<Column> columns);

  void add(std::vector<std::string> cells);
  std::size_t size() const { return rows_.size(); }

  // Lines, the title first. `columns_max` 0: no limit. `rows_max` 0: all rows, else a last line says how many more.
  std::vector<std::string> lines(std::size_t columns_max, std::size_t rows_max = 0) const;

  // To standard output, as wide as the terminal there, if it is one.
  void print() const;

 private:
  std::string line(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) const;
  std::vector<std::size_t> widths(std::size_t columns_max) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace holdfast::cli
