// SPDX-License-Identifier: MIT
//
// Reads the tables and the example commands of a Markdown document, for the tests that compare them with the code.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::docs {

struct Row {
  int line = 0;                             // in the document, from 1
  std::map<std::string, std::string> cell;  // by column title

  const std::string& operator[](const std::string& column) const;
};

struct Table {
  std::string heading;  // the nearest one above it
  std::vector<std::string> columns;
  std::vector<Row> rows;
};

class Document {
 public:
  // `name`: below the root of the source tree. A file that cannot be read is a test failure.
  explicit Document(const std::string& name);

  const std::vector<Table>& tables() const { return tables_; }
  // Tables below a heading that contains this text.
  std::vector<Table> under(std::string_view heading) const;
  // The one table with these first columns below that heading. None, or two, are a test failure.
  Table only(std::string_view heading, const std::vector<std::string>& columns) const;
  // Lines that are indented by four blanks: commands to copy.
  const std::vector<std::string>& commands() const { return commands_; }

 private:
  std::vector<Table> tables_;
  std::vector<std::string> commands_;
};

// The text between the first pair of backticks, or the whole cell if there is none.
std::string code(const std::string& cell);
// Every text between backticks.
std::vector<std::string> codes(const std::string& cell);

}  // namespace holdfast::docs
