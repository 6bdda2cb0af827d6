// SPDX-License-Identifier: MIT
#include "proto/control/message.hpp"

#include <array>
#include <exception>
#include <set>
#include <utility>

namespace holdfast::control {

namespace {

// How deep the brackets of a text nest, strings apart. Exact for JSON; other texts fail to parse anyway. It runs before
// the parser, so that nothing deep is ever built.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = ++depth > deepest ? depth : deepest;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

// The document, or nothing if the text is none. `repeated`: a member that stands twice in one object, of which a reader
// can know but one.
nlohmann::json parse_unique(std::string_view line, std::optional<std::string>& repeated) {
  constexpr std::size_t kShownBytes = 64;
  std::array<std::set<std::string>, kDepthMax + 1> members;  // of the objects that are open, by their depth
  using Event = nlohmann::json::parse_event_t;
  return nlohmann::json::parse(
      line,
      [&](int depth, Event event, nlohmann::json& parsed) {
        // An object's braces have the depth around it, its members one more.
        if (event == Event::object_start) members.at(static_cast<std::size_t>(depth) + 1).clear();
        if (event != Event::key) return true;
        const auto& name = parsed.get_ref<const std::string&>();
        if (!members.at(static_cast<std::size_t>(depth)).insert(name).second && !repeated)
          repeated = name.substr(0, kShownBytes);
        return true;
      },
      false);
}

std::string dump_line(const nlohmann::json& document) {
  std::string line = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  line.push_back('\n');
  return line;
}

}  // namespace

std::variant<nlohmann::json, ParseError> parse_line(std::string_view line) noexcept {
  try {
    if (line.size() > kLineBytesMax)
      return ParseError{"a line has at most " + std::to_string(kLineBytesMax) + " bytes, this one has " +
                        std::to_string(line.size())};
    if (nesting_depth(line) > kDepthMax)
      return ParseError{"a document nests at most " + std::to_string(kDepthMax) + " levels deep"};
    std::optional<std::string> repeated;
    nlohmann::json document = parse_unique(line, repeated);
    if (document.is_discarded()) return ParseError{"not a JSON document; send one document per line"};
    if (repeated) return ParseError{"the member \"" + *repeated + "\" stands twice in one object; send it once"};
    return document;
  } catch (const std::exception&) {
    // Only allocation can fail here. An empty sentence needs none.
    return ParseError{};
  }
}

std::string request_line(const nlohmann::json& id, std::string_view method, const nlohmann::json& params) {
  nlohmann::json document = nlohmann::json::object();
  document["jsonrpc"] = "2.0";
  document["id"] = id;
  document["method"] = std::string(method);
  if (!params.is_null()) document["params"] = params;
  return dump_line(document);
}

std::string result_line(const nlohmann::json& id, const nlohmann::json& result) {
  nlohmann::json document = nlohmann::json::object();
  document["jsonrpc"] = "2.0";
  document["id"] = id;
  document["result"] = result;
  return dump_line(document);
}

std::string error_line(const nlohmann::json& id, Failure failure, std::string_view sentence,
                       const nlohmann::json& numbers) {
  const ErrorRow& row = error_row(failure);
  nlohmann::json data = numbers.is_object() ? numbers : nlohmann::json::object();
  data["error"] = std::string(row.name);
  nlohmann::json error = nlohmann::json::object();
  error["code"] = row.code;
  error["message"] = std::string(sentence);
  error["data"] = std::move(data);
  nlohmann::json document = nlohmann::json::object();
  document["jsonrpc"] = "2.0";
  document["id"] = id;
  document["error"] = std::move(error);
  return dump_line(document);
}

bool LineBuffer::append(std::string_view bytes) {
  if (begin_ > 0) {
    bytes_.erase(0, begin_);
    tail_ -= begin_;
    begin_ = 0;
  }
  std::size_t search = bytes_.size();
  bytes_.append(bytes);
  for (std::size_t end = bytes_.find('\n', search); end != std::string::npos; end = bytes_.find('\n', search)) {
    if (end + 1 - tail_ > kLineBytesMax) {
      bytes_.resize(tail_);
      return false;
    }
    tail_ = search = end + 1;
  }
  // A line of the full length may still lack its newline, no more.
  if (bytes_.size() - tail_ < kLineBytesMax) return true;
  bytes_.resize(tail_);
  return false;
}

std::optional<std::string> LineBuffer::next() {
  if (begin_ == tail_) return std::nullopt;
  const std::size_t end = bytes_.find('\n', begin_);
  std::string line = bytes_.substr(begin_, end - begin_);
  begin_ = end + 1;
  return line;
}

}  // namespace holdfast::control
