// A blob, and the answers of servers that have it.
#pragma once

#include <cstddef>
#include <string>

#include "../support/scripted_server.h"
#include "format/bytes.h"
#include "format/digest.h"
#include "format/oci.h"

namespace puzzlefs::test {

/// Large enough for a part of it to count as progress.
inline std::string make_blob() {
  std::string blob;
  for (int i = 0; blob.size() < 64 << 10; ++i) blob += std::to_string(i) + " ";
  return blob;
}

inline const std::string kBlob = make_blob();

inline format::Descriptor descriptor(const std::string& blob = kBlob) {
  format::Descriptor result;
  result.digest = format::sha256(as_bytes(blob));
  result.size = blob.size();
  return result;
}

inline bool is_blob(const ServedRequest& request) {
  return request.target.find("/blobs/") != std::string::npos;
}

inline std::string content_range(std::size_t first, std::size_t last, std::size_t total) {
  return "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
         std::to_string(total);
}

/// As a server with ranges answers, "bytes=N-" or "bytes=N-M".
inline Reply serve_of(const std::string& blob, const ServedRequest& request) {
  const auto range = request.header("range");
  if (range.empty()) return {.body = blob};
  const auto first = std::stoul(range.substr(range.find('=') + 1));
  const auto end = range.substr(range.find('-') + 1);
  const auto last = end.empty() ? blob.size() - 1 : std::stoul(end);
  return {.status = 206,
          .headers = {{"Content-Range", content_range(first, last, blob.size())}},
          .body = blob.substr(first, last - first + 1)};
}

inline Reply serve(const ServedRequest& request) {
  return serve_of(kBlob, request);
}

/// The answer, broken off after `sent` bytes of the body.
inline Reply cut(Reply reply, std::size_t sent) {
  reply.headers.emplace_back("Content-Length", std::to_string(reply.body.size()));
  reply.body_sent = sent;
  reply.ending = Reply::Ending::kReset;
  return reply;
}

}  // namespace puzzlefs::test
